import Chanserv
import Foundation

/// The same frames as the command `make` of the drill plugin makes.
struct Payload: Sendable {
    enum Kind: String, CaseIterable, Sendable {
        case random, text, marked
        case markedText = "marked-text"
    }

    let bytes: [UInt8]

    init(_ kind: Kind, size: Int) {
        let block = kind == .text || kind == .markedText ? Self.letters : Self.noise
        var bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            block.withUnsafeBytes { block in
                var at = 0
                while at < size {
                    let part = block.prefix(size - at)
                    UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[at...])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: part))
                    at += part.count
                }
            }
            count = size
        }
        if kind == .marked || kind == .markedText {
            let mark = Array("lz4!".utf8).prefix(size)
            bytes.replaceSubrange(0..<mark.count, with: mark)
        }
        self.bytes = bytes
    }

    /// Whether a frame has the same bytes.
    func isEqual(to frame: ReceivedFrame) -> Bool {
        frame.withUnsafeBytes { frame in
            bytes.withUnsafeBytes { bytes in
                guard bytes.count == frame.count else { return false }
                return bytes.isEmpty || memcmp(bytes.baseAddress!, frame.baseAddress!, bytes.count) == 0
            }
        }
    }

    private static let noise: [UInt8] = {
        var state: UInt32 = 1
        return (0..<262_147).map { _ in
            state = state &* 1_664_525 &+ 1_013_904_223
            return UInt8(truncatingIfNeeded: state >> 24)
        }
    }()

    private static let letters = (0..<4_093).map { UInt8(97 + $0 * $0 % 26) }
}
