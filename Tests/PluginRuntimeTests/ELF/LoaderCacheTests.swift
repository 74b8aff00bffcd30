import Foundation
import PluginRuntime
import Testing

@Suite("The linker's cache") struct LoaderCacheTests {
    private static func number(_ value: Int, _ size: Int = 4) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// A cache as `ldconfig` writes it.
    static func cache(_ entries: [(name: String, path: String)]) -> [UInt8] {
        var texts: [UInt8] = []
        var table: [UInt8] = []
        let start = 48 + 24 * entries.count
        for entry in entries {
            table += number(0x303) + number(start + texts.count)
            texts += Array(entry.name.utf8) + [0]
            table += number(start + texts.count) + number(0) + number(0, 8)
            texts += Array(entry.path.utf8) + [0]
        }
        let head = Array("glibc-ld.so.cache1.1".utf8) + number(entries.count) + number(texts.count)
        return head + [UInt8](repeating: 0, count: 48 - head.count) + table + texts
    }

    @Test func `a name has its paths in the order of the cache`() throws {
        let bytes = Self.cache([("liba.so", "/opt/liba.so"), ("libb.so", "/b"), ("liba.so", "/usr/lib/liba.so")])
        let cache = try #require(LoaderCache(bytes))
        #expect(cache.paths(of: "liba.so") == ["/opt/liba.so", "/usr/lib/liba.so"])
        #expect(cache.paths(of: "libc.so") == [])
    }

    @Test func `a cache that follows one in the old format is read`() throws {
        let old = Array("ld.so-1.7.0".utf8) + [0] + Self.number(1) + [UInt8](repeating: 0, count: 12)
        let padded = old + [UInt8](repeating: 0, count: (8 - old.count % 8) % 8)
        let cache = try #require(LoaderCache(padded + Self.cache([("liba.so", "/a")])))
        #expect(cache.paths(of: "liba.so") == ["/a"])
    }

    @Test func `a file that is no cache is rejected and not read as an empty one`() {
        #expect(LoaderCache([]) == nil)
        #expect(LoaderCache(Array("something else".utf8)) == nil)
    }

    /// Runs only if this machine has a cache. It must contain the C library.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/etc/ld.so.cache")))
    func `the cache of this machine is read`() throws {
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: "/etc/ld.so.cache")))
        let paths = try #require(LoaderCache(bytes)).paths(of: "libc.so.6")
        #expect(paths.contains { FileManager.default.fileExists(atPath: $0) })
    }
}
