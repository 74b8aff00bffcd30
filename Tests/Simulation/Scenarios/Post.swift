import AstraNet
import NIOCore

/// A stream with a request and an answer, and the behaviour of its client.
struct Post {
    enum Behaviour: CaseIterable {
        case readsAtOnce
        /// Waits between reads.
        case slow
        /// Its task is cancelled at a random time.
        case cancels
        /// Closes the stream before the whole answer has arrived.
        case vanishes
    }

    var id: UInt64
    var host: Int
    var service: String
    var behaviour: Behaviour
    var requestSize: Int
    var answerSize: Int
    /// Seed for values that are drawn during the post.
    var seed: UInt64

    static func drawn(id: UInt64, host: Int, service: String, _ random: inout SeededRandom) -> Post {
        func size(_ random: inout SeededRandom) -> Int {
            switch random.pick(0...9) {
            case 0: 0
            case 1...4: random.pick(1...2_000)
            case 5...7: random.pick(2_000...100_000)
            default: random.pick(100_000...600_000)
            }
        }
        return Post(
            id: id, host: host, service: service,
            behaviour: random.pick([.readsAtOnce, .readsAtOnce] + Behaviour.allCases),
            requestSize: random.chance(70) ? random.pick(0...500) : size(&random), answerSize: size(&random),
            seed: random.next())
    }
}

/// The content of streams. Each byte follows from a number and an offset, so that every reader can check it.
enum Content {
    static let headerSize = 16

    /// The header of a request and the first `count` bytes of its content.
    static func opening(of post: Post, _ count: Int) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeMultipleIntegers(post.id, UInt32(post.requestSize), UInt32(post.answerSize))
        bytes.writeImmutableBuffer(self.bytes(post.id, from: 0, count: count))
        return bytes
    }

    private static func byte(_ id: UInt64, _ offset: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: id &* 37 &+ UInt64(offset) &+ UInt64(offset >> 8))
    }

    static func bytes(_ id: UInt64, from offset: Int, count: Int) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { buffer in
            for index in 0..<count { buffer[index] = byte(id, offset + index) }
            return count
        }
        return bytes
    }

    static func isRight(_ bytes: ByteBuffer, _ id: UInt64, at offset: Int) -> Bool {
        bytes.withUnsafeReadableBytes { buffer in
            for index in 0..<buffer.count where buffer[index] != byte(id, offset + index) { return false }
            return true
        }
    }
}
