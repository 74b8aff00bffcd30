import CLZ4
import Chanserv
import Testing

/// Compression of large payloads in pieces.
@Suite struct CompressedPiecesTests {
    private struct Compressed {
        var block: [UInt8]
        /// The number of pieces in which the payload was compressed.
        var pieces: Int
    }

    private static func compress(_ payload: [UInt8], room: Int? = nil) -> Compressed? {
        let state = UnsafeMutableRawPointer.allocate(byteCount: Int(LZ4_sizeofState()), alignment: 16)
        defer { state.deallocate() }
        var pieces = 1
        var length: Int?
        let block = [UInt8](unsafeUninitializedCapacity: room ?? Compressor.bound(payload.count)) { block, count in
            length = payload.withUnsafeBytes { payload in
                CompressedPieces.compress(payload, into: UnsafeMutableRawBufferPointer(block), state: state) {
                    pieces += 1
                }
            }
            count = length ?? 0
        }
        return length == nil ? nil : Compressed(block: block, pieces: pieces)
    }

    /// Decompresses with the bounds-checked function of LZ4.
    private static func decompress(_ block: [UInt8], to size: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: size) { target, count in
            let length = block.withUnsafeBytes { block in
                LZ4_decompress_safe(
                    block.baseAddress?.assumingMemoryBound(to: CChar.self),
                    UnsafeMutableRawPointer(target.baseAddress)?.assumingMemoryBound(to: CChar.self),
                    Int32(block.count), Int32(size))
            }
            count = max(0, Int(length))
        }
    }

    private static func lengthInOnePiece(_ payload: [UInt8]) -> Int {
        var block = [UInt8](repeating: 0, count: Compressor.bound(payload.count))
        return block.withUnsafeMutableBytes { block in
            payload.withUnsafeBytes { payload in
                Int(
                    LZ4_compress_default(
                        payload.baseAddress?.assumingMemoryBound(to: CChar.self),
                        block.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(payload.count), Int32(block.count)
                    ))
            }
        }
    }

    /// The kinds of content that payloads consist of.
    enum Stretch: CaseIterable {
        case zeros, random, words
        /// Content that repeats every 20,000 bytes. A piece can end only at a repetition within 8,192 bytes.
        case farRepeats

        func bytes(_ count: Int, _ random: inout Random) -> [UInt8] {
            func randomBytes(_ count: Int, _ random: inout Random) -> [UInt8] {
                (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) }
            }
            switch self {
            case .zeros: return [UInt8](repeating: 0, count: count)
            case .random: return randomBytes(count, &random)
            case .words:
                let vocabulary = (0..<300).map { _ in randomBytes(2 + Int(random.next() % 9), &random) }
                var bytes: [UInt8] = []
                while bytes.count < count { bytes += vocabulary[Int(random.next() >> 33) % vocabulary.count] }
                return Array(bytes.prefix(count))
            case .farRepeats: return randomBytes(20_000, &random).repeated(to: count).prefix(count).map { $0 }
            }
        }
    }

    @Test(arguments: Stretch.allCases)
    func `a payload of any size is compressed to one block that decompresses to it`(of stretch: Stretch) throws {
        let piece = CompressedPieces.minimum / 2
        let sizes = [
            2 * piece, 2 * piece + 3, 2 * piece + 4, 2 * piece + 5, 3 * piece - 1, 3 * piece + 9, 1 << 20,
            (1 << 22) + 1,
        ]
        for size in sizes {
            var random = Random(seed: UInt64(size))
            let payload = stretch.bytes(size, &random)
            let compressed = try #require(Self.compress(payload))
            #expect(Self.decompress(compressed.block, to: size) == payload, "\(size) bytes")
        }
    }

    @Test func `payloads of mixed content decompress to the original`() throws {
        for seed in 1...150 as ClosedRange<UInt64> {
            var random = Random(seed: seed)
            var payload: [UInt8] = []
            while payload.count < CompressedPieces.minimum {
                for _ in 0...random.next() % 12 {
                    let stretch = Stretch.allCases[Int(random.next() >> 33) % Stretch.allCases.count]
                    payload += stretch.bytes(Int(random.next() >> 33) % 90_000, &random)
                }
            }
            let compressed = try #require(Self.compress(payload))
            #expect(Self.decompress(compressed.block, to: payload.count) == payload, "seed \(seed)")
        }
    }

    @Test func `a compressible payload is compressed in several pieces`() throws {
        var random = Random(seed: 1)
        let payload = Stretch.words.bytes(1 << 20, &random)
        let compressed = try #require(Self.compress(payload))
        // A piece is longer if the four bytes after it do not occur shortly before. Here that is more frequent than in
        // most text.
        #expect((3...8).contains(compressed.pieces))
        #expect(Double(compressed.block.count) < Double(Self.lengthInOnePiece(payload)) * 1.03)
    }

    @Test func `an incompressible payload is one piece of the same size as one LZ4 call makes`() throws {
        var random = Random(seed: 2)
        let payload = Stretch.random.bytes(1 << 20, &random)
        let compressed = try #require(Self.compress(payload))
        #expect(compressed.pieces == 1)
        #expect(compressed.block.count == Self.lengthInOnePiece(payload))
    }

    @Test func `compression into a buffer that is too small returns nil`() throws {
        var random = Random(seed: 3)
        let payload = Stretch.words.bytes(400_000, &random)
        let whole = try #require(Self.compress(payload)).block.count
        for room in [0, 1, 100, whole / 3, whole / 2, whole - 1] {
            #expect(Self.compress(payload, room: room) == nil, "\(room) bytes")
        }
    }
}
