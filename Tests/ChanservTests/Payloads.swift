import Chanserv
import NIOCore

/// Test payloads: every size at which the encoding changes, and every kind that is encoded differently.
enum Payloads {
    enum Kind: String, CaseIterable, Sendable {
        case random, text, marked, markedText
    }

    static let sizes = [0, 1, 4, 8, 11, 12, 13, 14, 255, 65_535, 65_536, 65_537, 1 << 20]

    static func make(_ kind: Kind, _ size: Int) -> [UInt8] {
        var random = Random(seed: UInt64(size) &+ 7)
        var bytes: [UInt8]
        switch kind {
        case .random, .marked: bytes = (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) }
        case .text, .markedText: bytes = Array("the quick brown fox ".utf8).repeated(to: size)
        }
        if kind == .marked || kind == .markedText { bytes = Array((Array("lz4!".utf8) + bytes).prefix(size)) }
        return bytes
    }
}

/// A random number generator with the same numbers in every run.
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}

extension [UInt8] {
    func repeated(to size: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(size)
        while result.count < size { result.append(contentsOf: prefix(size - result.count)) }
        return result
    }
}

extension FrameDecoder {
    /// Decodes all frames in `bytes`, which reach the decoder in the parts that `cut` returns.
    static func decodeAll(
        _ bytes: ByteBuffer, decompresses: Bool = true, cut: (inout ByteBuffer) -> ByteBuffer?
    ) throws -> [[UInt8]] {
        var decoder = FrameDecoder(decompresses: decompresses)
        var rest = bytes
        var frames: [[UInt8]] = []
        while rest.readableBytes > 0, let part = cut(&rest) {
            decoder.append(part)
            while true {
                if let frame = decoder.nextAtHand() {
                    frames.append(Array(frame.readableBytesView))
                } else if let frame = try decoder.next() {
                    frames.append(Array(frame.readableBytesView))
                } else {
                    break
                }
            }
        }
        try decoder.finish()
        return frames
    }
}
