import PluginRuntime
import TestSupport
import Testing

/// Reading a damaged file ends with a result or an error. Out-of-bounds reads and overflows would trap.
@Suite("ELF examination of damaged files") struct ELFFuzzTests {
    private enum Outcome: Hashable { case read, refused }

    /// Reads everything that the examination reads.
    private func read(_ bytes: [UInt8]) -> Outcome {
        do throws(ELFProblem) {
            let library = try ELFLibrary(bytes)
            _ = library.entry.problem
            _ = library.dynamic.neededLibraries
            return .read
        } catch {
            return .refused
        }
    }

    private static let samples = [
        ("gnu", "-Wl,--hash-style=gnu"), ("sysv", "-Wl,--hash-style=sysv"),
    ]

    @Test(arguments: samples.map { $0.1 })
    func `a truncated file is read or refused`(style: String) throws {
        let bytes = try ELFLibraryTests.bytes(ELFLibraryTests.exporting, style)
        var outcomes: Set<Outcome> = []
        for size in stride(from: 0, through: bytes.count, by: 7) { outcomes.insert(read(Array(bytes[..<size]))) }
        #expect(outcomes == [.read, .refused])
    }

    @Test(arguments: samples.map { $0.1 })
    func `a file with changed bytes is read or refused`(style: String) throws {
        let bytes = try ELFLibraryTests.bytes("int chanserv_plugin_v1(void) { return 0; }", style)
        var outcomes: Set<Outcome> = []
        for seed in 0..<3000 as Range<UInt64> {
            var generator = SplitMix64(state: seed)
            var changed = bytes
            for _ in 0...Int.random(in: 0..<8, using: &generator) {
                // Half of the changes hit the first 2 KiB, where the headers and tables are.
                let end = Bool.random(using: &generator) ? min(2048, changed.count) : changed.count
                let index = Int.random(in: 0..<end - 8, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: changed[index] = 0xFF
                case 1: changed[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 2: changed[index] = .random(in: 0...255, using: &generator)
                default: for index in index..<index + 8 { changed[index] = 0xFF }
                }
            }
            outcomes.insert(read(changed))
        }
        #expect(outcomes == [.read, .refused])
    }

    /// Sets each number of the ELF header, the program headers and the dynamic section to extreme values.
    @Test(arguments: samples.map { $0.1 })
    func `a file with extreme numbers is read or refused`(style: String) throws {
        let bytes = try ELFLibraryTests.bytes("int x(void); int y(void) { return x(); }", style, "-s")
        let header = try ELFHeader(ELFBytes(bytes))
        let segments = try ELFSegments(ELFBytes(bytes), header.programHeaders)
        let dynamic = try #require(segments.dynamic)
        let hash = try ELFDynamic(ELFBytes(bytes), segments)
        #expect(hash.gnuHash != nil || hash.systemVHash != nil)
        let numbers =
            Array(stride(from: 0, to: 64 + 56 * Int(header.programHeaders.count), by: 4))
            + Array(stride(from: Int(dynamic.offset), to: Int(dynamic.offset + dynamic.size), by: 8))
            + Array(stride(from: 64 + 56 * Int(header.programHeaders.count), to: min(2048, bytes.count - 8), by: 4))
        var outcomes: Set<Outcome> = []
        for number in numbers {
            for value: UInt64 in [0, 1, .max, .max - 7, 1 << 63, UInt64(bytes.count), UInt64(bytes.count) - 1] {
                var changed = bytes
                for index in 0..<8 where number + index < changed.count {
                    changed[number + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))
                }
                outcomes.insert(read(changed))
            }
        }
        #expect(outcomes == [.read, .refused])
    }

    @Test func `a linker cache with changed bytes is read or refused`() throws {
        let bytes = LoaderCacheTests.cache([("liba.so.1", "/lib/liba.so.1"), ("libb.so", "/lib/libb.so")])
        for size in 0..<bytes.count { #expect(LoaderCache(Array(bytes[..<size])) == nil) }
        for seed in 0..<2000 as Range<UInt64> {
            var generator = SplitMix64(state: seed)
            var changed = bytes
            for _ in 0..<3 {
                let index = Int.random(in: 0..<changed.count, using: &generator)
                changed[index] = .random(in: 0...255, using: &generator)
            }
            _ = LoaderCache(changed)?.paths(of: "liba.so.1")
        }
    }
}
