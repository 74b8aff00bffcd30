import AstraNet
import NIOCore

/// One chanserv request and the behaviour of its client.
struct SimulatedRequest {
    enum Behaviour: CaseIterable {
        /// Reads the sources one after the other.
        case inOrder
        /// Reads all sources concurrently, each in its own task.
        case atOnce
        /// Waits between sources and frames.
        case slow
        /// Its task is cancelled at a random time.
        case cancelsTask
        /// Cancels the request at a random time, and continues to read the sources that it has.
        case cancelsRequest
        /// Takes some sources and drops the rest of the request.
        case stopsEarly
        /// Drops some sources, unread or after a few frames.
        case dropsSources
    }

    var id: UInt64
    var host: Int
    var name: String
    var behaviour: Behaviour
    var bodySize: Int
    /// Nanoseconds from the post to the deadline of the request; `nil` for none.
    var deadline: UInt64?
    var acceptsPushedSources: Bool
    var sourceBuffer: Int
    /// Seed for values that are drawn during the request.
    var seed: UInt64

    /// Requests with this id or a larger one have small answers without failures, and every client must get all of
    /// them.
    static let firstCalm: UInt64 = 1_000_000

    var isCalm: Bool { id >= Self.firstCalm }

    static func drawn(id: UInt64, host: Int, name: String, _ random: inout SeededRandom) -> SimulatedRequest {
        SimulatedRequest(
            id: id, host: host, name: name, behaviour: random.pick([.inOrder, .atOnce] + Behaviour.allCases),
            bodySize: random.chance(85) ? random.pick(0...500) : random.pick(500...200_000),
            deadline: random.chance(30) ? random.next() % (8 * World.second) : nil,
            acceptsPushedSources: random.chance(75), sourceBuffer: random.pick([1, 3, 128]), seed: random.next())
    }

    static func calm(id: UInt64, host: Int, name: String, _ random: inout SeededRandom) -> SimulatedRequest {
        SimulatedRequest(
            id: firstCalm + id, host: host, name: name, behaviour: random.pick([.inOrder, .atOnce]),
            bodySize: random.pick(0...2_000), deadline: random.chance(50) ? 30 * World.second : nil,
            acceptsPushedSources: random.chance(60), sourceBuffer: random.pick([1, 3, 128]), seed: random.next())
    }
}

/// The body of a request. It determines the answer.
enum RequestBody {
    private static let headerSize = 16

    static func bytes(of request: SimulatedRequest) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeMultipleIntegers(request.id, request.seed)
        bytes.writeImmutableBuffer(Content.bytes(request.id, from: 0, count: request.bodySize))
        return bytes
    }

    /// The id and the seed of the request; `nil` if the body is not valid.
    static func read(_ body: ByteBuffer) -> (id: UInt64, seed: UInt64)? {
        var body = body
        guard let (id, seed) = body.readMultipleIntegers(as: (UInt64, UInt64).self) else { return nil }
        return Content.isRight(body, id, at: 0) ? (id, seed) : nil
    }
}

/// The answer to a request. Both ends compute it from the seed.
struct Answer {
    enum End {
        case well
        case fails
        /// Produces nothing more until the request is cancelled.
        case hangs
    }

    struct Source {
        var headerSize: Int
        var frameSizes: [Int]
        var end: End
    }

    var sources: [Source]
    var end: End

    init(id: UInt64, seed: UInt64) {
        var random = SeededRandom(seed, 12)
        let isCalm = id >= SimulatedRequest.firstCalm
        let count =
            switch random.pick(0...99) {
            case 0..<10: 0
            case 10..<45: 1
            case 45..<82: random.pick(2...5)
            case _ where isCalm: 3
            case 82..<97: random.pick(6...40)
            default: random.pick(120...300)
            }
        sources = (0..<count).map { _ in Source(isFew: count > 40, isCalm: isCalm, &random) }
        end = isCalm || random.chance(85) ? .well : random.pick([.fails, .hangs])
    }

    /// The bytes of the header of source `index`.
    func header(_ index: Int, of id: UInt64) -> ByteBuffer {
        Content.bytes(Self.number(index, of: id), from: 0, count: sources[index].headerSize)
    }

    func frame(_ frame: Int, of index: Int, of id: UInt64) -> ByteBuffer {
        let source = sources[index]
        return Content.bytes(
            Self.number(index, of: id), from: source.headerSize + frame * 3, count: source.frameSizes[frame])
    }

    /// Whether `bytes` is the right frame of source `index`; frame -1 is the header.
    func isRight(_ bytes: ByteBuffer, frame: Int, of index: Int, of id: UInt64) -> Bool {
        let source = sources[index]
        guard bytes.readableBytes == (frame < 0 ? source.headerSize : source.frameSizes[frame]) else { return false }
        return Content.isRight(
            bytes, Self.number(index, of: id), at: frame < 0 ? 0 : source.headerSize + frame * 3)
    }

    /// Whether the answer is one source with one small frame, without a failure.
    var isOneFrame: Bool {
        guard sources.count == 1, case .well = end, case .well = sources[0].end else { return false }
        return sources[0].frameSizes.count == 1 && sources[0].frameSizes[0] < 1_000
    }

    private static func number(_ index: Int, of id: UInt64) -> UInt64 { id &* 1_009 &+ UInt64(index) &* 7 }
}

extension Answer.Source {
    fileprivate init(isFew: Bool, isCalm: Bool, _ random: inout SeededRandom) {
        if isFew {
            headerSize = random.pick(0...20)
            frameSizes = [random.pick(0...50)]
            end = .well
            return
        }
        headerSize = random.chance(95) || isCalm ? random.pick(0...50) : random.pick(10_000...40_000)
        frameSizes = (0..<random.pick(0...6)).map { _ in
            switch random.pick(0...99) {
            case 0..<85: random.pick(0...1_500)
            case 85..<97: random.pick(1_500...20_000)
            default: random.pick(20_000...(isCalm ? 30_000 : 150_000))
            }
        }
        // Some sources have many small frames.
        if random.chance(5), !isCalm { frameSizes = (0..<random.pick(20...400)).map { _ in random.pick(0...100) } }
        end = isCalm || random.chance(92) ? .well : random.pick([.fails, .hangs])
    }
}
