import DequeModule
import NIOCore

/// One end of a simulated connection.
protocol Endpoint: AnyObject {
    func received(_ bytes: ByteBuffer)
    func writabilityChanged(_ isWritable: Bool)
    func disconnected()
}

/// The transport properties of one direction of a connection.
struct ConnectionProfile {
    /// Latency in one direction, nanoseconds.
    var latency: UInt64
    /// Maximum random addition to the latency, nanoseconds. The order of bytes is kept.
    var jitter: UInt64
    /// Maximum number of bytes that arrive at once.
    var largestPiece: Int
    /// Whether smaller pieces also arrive.
    var splits: Bool
    /// Time between two pieces, nanoseconds.
    var gap: UInt64
    /// Number of bytes in transit above which the sender's channel is not writable.
    var highWater: Int

    /// A profile with latency only.
    static func plain(latency: UInt64) -> ConnectionProfile {
        ConnectionProfile(
            latency: latency, jitter: 0, largestPiece: .max, splits: false, gap: 0, highWater: 16 << 20)
    }

    static func drawn(_ random: inout SeededRandom) -> ConnectionProfile {
        let isSlow = random.chance(10)
        return ConnectionProfile(
            latency: UInt64(random.pick(isSlow ? 20...200 : 0...20)) * World.millisecond / 2 + 10_000,
            jitter: random.chance(50) ? 0 : UInt64(random.pick(1...10_000)) * 1_000,
            largestPiece: isSlow ? 16_384 : random.pick([1_500, 65_536, 262_144]),
            splits: random.chance(50), gap: UInt64(random.pick(0...(isSlow ? 3_000 : 300))) * 1_000,
            highWater: random.pick([65_536, 262_144, 1 << 20]))
    }
}

/// A connection between two hosts. The scheduler decides when its bytes arrive. Side 0 dialled, side 1 accepted.
final class Connection {
    let id: Int
    let hosts: [Int]
    let world: World
    let monitor: WireMonitor
    private(set) var isOpen = true
    /// Whether the connection was cut and one end does not know it yet.
    private(set) var isCutUndetected = false
    private var endpoints: [(any Endpoint)?] = [nil, nil]
    private var directions: [Direction]
    private var random: SeededRandom

    private struct Direction {
        var profile: ConnectionProfile
        var segments: Deque<(readyAt: UInt64, bytes: ByteBuffer)> = []
        var waiting = 0
        var isFull = false
        var isScheduled = false
        var stalledUntil: UInt64 = 0
        var lastReadyAt: UInt64 = 0
        /// The sender has closed. The end arrives after the last byte.
        var isFinished = false
    }

    init(
        id: Int, hosts: [Int], world: World, profiles: [ConnectionProfile], random: SeededRandom, areOurs: [Bool],
        book: StreamBook
    ) {
        self.id = id
        self.hosts = hosts
        self.world = world
        self.random = random
        directions = profiles.map { Direction(profile: $0) }
        monitor = WireMonitor(
            world: world, name: "link \(id) n\(hosts[0])-n\(hosts[1])", hosts: hosts, areOurs: areOurs, book: book)
    }

    func attach(_ endpoint: any Endpoint, side: Int) {
        endpoints[side] = endpoint
    }

    func hasEndpoint(_ side: Int) -> Bool { endpoints[side] != nil }

    /// Whether the latency varies.
    var hasJitter: Bool { directions.contains { $0.profile.jitter > 0 } }

    /// Whether both ends have received the handshake of the other and neither has closed.
    var isUp: Bool { isOpen && endpoints[0] != nil && endpoints[1] != nil && monitor.isUp }

    // MARK: - Sending

    func write(_ bytes: ByteBuffer, from side: Int) {
        guard isOpen, bytes.readableBytes > 0, endpoints[side] != nil else { return }
        monitor.sent(bytes, by: side)
        // The peer has closed and reads nothing.
        guard !directions[1 - side].isFinished else { return }
        let jitter = directions[side].profile.jitter
        let readyAt = max(
            directions[side].lastReadyAt,
            world.now + directions[side].profile.latency + (jitter > 0 ? random.next() % jitter : 0))
        directions[side].lastReadyAt = readyAt
        directions[side].segments.append((readyAt, bytes))
        directions[side].waiting += bytes.readableBytes
        if !directions[side].isFull, directions[side].waiting > directions[side].profile.highWater {
            directions[side].isFull = true
            endpoints[side]?.writabilityChanged(false)
        }
        schedule(side)
    }

    /// Closes one end. The bytes that it has sent still arrive.
    func closed(by side: Int) {
        guard isOpen, endpoints[side] != nil else { return }
        world.note("link \(id): n\(hosts[side]) closes")
        endpoints[side] = nil
        directions[1 - side].segments = []
        directions[side].isFinished = true
        directions[side].lastReadyAt = max(
            directions[side].lastReadyAt, world.now + directions[side].profile.latency)
        schedule(side)
    }

    /// Delays all bytes in both directions for a time.
    func stall(for nanoseconds: UInt64) {
        for side in 0...1 {
            directions[side].stalledUntil = max(directions[side].stalledUntil, world.now + nanoseconds)
        }
    }

    func unstall() {
        for side in 0...1 { directions[side].stalledUntil = 0 }
    }

    /// Breaks the connection and drops all bytes in flight. One end may detect it later than the other.
    func cut(isDetectedAtOnce: Bool = false) {
        guard isOpen else { return }
        world.note("link \(id) n\(hosts[0])-n\(hosts[1]) is cut")
        isOpen = false
        let first = random.pick(0...1)
        let delay = isDetectedAtOnce || random.chance(70) ? 0 : random.next() % (2 * World.second)
        let ends = endpoints
        endpoints = [nil, nil]
        ends[first]?.disconnected()
        guard let other = ends[1 - first] else { return }
        isCutUndetected = true
        world.after(delay) {
            self.isCutUndetected = false
            other.disconnected()
        }
    }

    // MARK: - Arriving

    private func schedule(_ side: Int, notBefore: UInt64 = 0) {
        guard isOpen, !directions[side].isScheduled else { return }
        let ready = directions[side].segments.first?.readyAt ?? directions[side].lastReadyAt
        guard !directions[side].segments.isEmpty || directions[side].isFinished else { return }
        directions[side].isScheduled = true
        let at = max(ready, notBefore, min(directions[side].stalledUntil, world.now + 100 * World.millisecond))
        world.after(at > world.now ? at - world.now : 0) { self.arrive(side) }
    }

    private func arrive(_ side: Int) {
        directions[side].isScheduled = false
        guard isOpen else { return }
        let now = world.now
        if directions[side].stalledUntil > now { return schedule(side) }
        guard let first = directions[side].segments.first else {
            if directions[side].isFinished { finish(side) }
            return
        }
        guard first.readyAt <= now else { return schedule(side) }
        let profile = directions[side].profile
        let size = profile.splits && random.chance(30) ? random.pick(1...200) : profile.largestPiece
        var piece = ByteBuffer()
        while piece.readableBytes < size, let segment = directions[side].segments.first, segment.readyAt <= now {
            let count = min(size - piece.readableBytes, segment.bytes.readableBytes)
            let isWhole = count == segment.bytes.readableBytes
            let part = directions[side].segments[0].bytes.readSlice(length: count)!
            if piece.readableBytes == 0, part.readableBytes > 4_096 {
                piece = part
            } else {
                piece.writeImmutableBuffer(part)
            }
            if isWhole { directions[side].segments.removeFirst() }
        }
        directions[side].waiting -= piece.readableBytes
        monitor.delivered(piece, to: 1 - side)
        endpoints[1 - side]?.received(piece)
        guard isOpen else { return }
        if directions[side].isFull, directions[side].waiting < directions[side].profile.highWater / 4 {
            directions[side].isFull = false
            endpoints[side]?.writabilityChanged(true)
        }
        schedule(side, notBefore: now + profile.gap)
    }

    private func finish(_ side: Int) {
        isOpen = false
        let other = endpoints[1 - side]
        endpoints = [nil, nil]
        other?.disconnected()
    }
}
