internal import NIOCore

/// The forwarding of a router: passes ops for other hosts unchanged to their links. Belongs to the event loop of the
/// link that the ops come from.
///
/// Pieces of at least a quarter of a read are passed on without a copy.
final class LinkForwarder {
    /// Consecutive ops of a read that go to the same link and are forwarded as one piece.
    struct Run {
        fileprivate var way: Link?
        fileprivate var start = 0
        fileprivate var end = 0
    }

    private let node: NodeCore
    private let link: Link
    /// The links to other hosts that this link has looked up.
    private var routes: [HostID: Link] = [:]
    /// At this number of routes, those of closed links are removed.
    private var sweepsAt = LinkForwarder.minimumSweepCount

    private static let minimumSweepCount = 64

    init(_ link: Link) {
        node = link.node
        self.link = link
    }

    /// Forwards an op for another host. The op is at `range` of the read bytes.
    ///
    /// - Returns: the reason why the link must be closed; usually `nil`.
    func take(
        _ op: Op, at range: Range<Int>, of bytes: ByteBuffer, from peer: LinkPeer, _ run: inout Run
    ) -> AstraNetError? {
        let host = op.header.destination.host
        // The source must be the peer itself. Abilities such as larger payloads end at the peer (`docs/protocol.md`
        // §3).
        guard op.header.source.host == peer.host, op.payload.readableBytes <= Op.maximumPayload else { return nil }
        guard let way = way(to: host) else {
            if node.configuration.role == .router, op.header.command != .rst {
                link.sendControl { $0.writeReset(of: host, to: op.header.source.host) }
            }
            return nil
        }
        if run.way === way, run.end == range.lowerBound {
            run.end = range.upperBound
            return nil
        }
        let failure = finish(&run, of: bytes)
        run = Run(way: way, start: range.lowerBound, end: range.upperBound)
        return failure
    }

    /// Forwards the collected ops.
    ///
    /// - Returns: the reason why the link must be closed; usually `nil`.
    func finish(_ run: inout Run, of bytes: ByteBuffer) -> AstraNetError? {
        guard let way = run.way, let slice = bytes.getSlice(at: run.start, length: run.end - run.start) else {
            return nil
        }
        run.way = nil
        // A slice keeps the memory of the whole read, so small pieces are copied.
        let ops = slice.readableBytes >= bytes.storageCapacity / 4 ? slice : ByteBuffer(copying: slice)
        switch way.forward(ops, from: link) {
        case .done: break
        case .full, .sourceIsFull: return refuse(ops, to: way)
        case .closed: routes = routes.filter { $0.value !== way }
        }
        return nil
    }

    /// Drops all routes, because the link is closed.
    func end() {
        routes = [:]
    }

    private func way(to host: HostID) -> Link? {
        if let known = routes[host], !known.isClosed { return known }
        let found = node.route(from: link, to: host)
        routes[host] = found
        if routes.count >= sweepsAt {
            // Hosts come and go, and the route to a lost host is never looked up again.
            routes = routes.filter { !$0.value.isClosed }
            sweepsAt = max(Self.minimumSweepCount, 2 * routes.count)
        }
        return found
    }

    /// Handles ops that exceed the budget of the destination's link. Streams whose DATA is among them fail at both
    /// ends. Other ops are queued as urgent in their order, because an end must not overtake DATA.
    private func refuse(_ ops: ByteBuffer, to way: Link) -> AstraNetError? {
        var ops = ops
        var failed: Set<StreamTable.Key> = []
        while let op = Self.decodeAgain(&ops) {
            let key = StreamTable.Key(remote: op.header.source, localPort: op.header.destination.port)
            guard !failed.contains(key) else { continue }
            var urgent = ByteBuffer()
            if op.header.command == .data {
                failed.insert(key)
                node.counters.overfullStreams.add(1, ordering: .relaxed)
                let message = "too many bytes wait for \(op.header.destination.host) on the router"
                link.sendControl { $0.writeFailure(message, to: op.header.source, from: op.header.destination) }
                urgent.writeFailure(message, to: op.header.destination, from: op.header.source)
            } else {
                urgent.writeOp(op)
            }
            switch way.forward(urgent, from: link, isUrgent: true) {
            case .done, .closed: break
            // A peer that respects credit does not get here. If an op were only dropped, a stream could wait for ever.
            case .sourceIsFull: return AstraNetError(.limitReached, "the peer sends more than other nodes take")
            case .full: way.close(AstraNetError(.limitReached, "the peer does not take the bytes to be forwarded"))
            }
        }
        return nil
    }

    private static func decodeAgain(_ ops: inout ByteBuffer) -> Op? {
        do {
            return try ops.readOp()
        } catch {
            preconditionFailure("the ops were decoded before: \(error)")
        }
    }
}

extension ByteBuffer {
    /// Copies `bytes` to a buffer of its own.
    init(copying bytes: ByteBuffer) {
        self = ByteBufferAllocator().buffer(capacity: bytes.readableBytes)
        bytes.withUnsafeReadableBytes { source in
            _ = writeWithUnsafeMutableBytes(minimumWritableBytes: source.count) { target in
                target.copyMemory(from: source)
                return source.count
            }
        }
    }
}
