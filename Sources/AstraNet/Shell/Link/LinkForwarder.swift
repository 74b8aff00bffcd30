internal import NIOCore

/// A router's work: ops for other hosts go to their links as they are. Belongs to the event loop of the link that they come from.
///
/// Pieces of a quarter of a read and more are passed on without a copy.
final class LinkForwarder {
    /// Ops that are back to back in what was read and go to the same link, so that they leave as one piece.
    struct Run {
        fileprivate var way: Link?
        fileprivate var start = 0
        fileprivate var end = 0
    }

    private let node: NodeCore
    private let link: Link
    /// Where ops for other hosts go, as far as this link has asked.
    private var routes: [HostID: Link] = [:]
    /// With so many routes those whose link is closed are looked for.
    private var sweepsAt = LinkForwarder.minimumSweepCount

    private static let minimumSweepCount = 64

    init(_ link: Link) {
        node = link.node
        self.link = link
    }

    /// Takes an op for another host, which stands at `start..<end` of what was read.
    ///
    /// - Returns: why the link must be closed; `nil` as a rule.
    func take(
        _ op: Op, at range: Range<Int>, of bytes: ByteBuffer, from peer: LinkPeer, _ run: inout Run
    ) -> AstraNetError? {
        let host = op.header.destination.host
        // No peer speaks for others behind a router, and abilities end at it.
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

    /// Hands over what has been collected.
    ///
    /// - Returns: why the link must be closed; `nil` as a rule.
    func finish(_ run: inout Run, of bytes: ByteBuffer) -> AstraNetError? {
        guard let way = run.way, let slice = bytes.getSlice(at: run.start, length: run.end - run.start) else {
            return nil
        }
        run.way = nil
        // A slice holds on to all that was read, so what is a small part of that is copied.
        let ops = slice.readableBytes >= bytes.storageCapacity / 4 ? slice : ByteBuffer(copying: slice)
        switch way.forward(ops, from: link) {
        case .done: break
        case .full, .sourceIsFull: return refuse(ops, to: way)
        case .closed: routes = routes.filter { $0.value !== way }
        }
        return nil
    }

    /// The link is gone.
    func end() {
        routes = [:]
    }

    private func way(to host: HostID) -> Link? {
        if let known = routes[host], !known.isClosed { return known }
        let found = node.route(from: link, to: host)
        routes[host] = found
        if routes.count >= sweepsAt {
            // Hosts come and go, and a route to one that has gone is never asked for again.
            routes = routes.filter { !$0.value.isClosed }
            sweepsAt = max(Self.minimumSweepCount, 2 * routes.count)
        }
        return found
    }

    /// The link to the destination has as much to send as it may: the streams whose bytes come now fail at both ends, the
    /// others go on. What is no stream's bytes keeps its place behind those, or a stream could seem to end before them.
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
            // A peer that heeds credit does not come here, and with anything less than its end some stream would wait for ever.
            case .sourceIsFull: return AstraNetError(.limitReached, "the peer sends more than others take")
            case .full: way.close(AstraNetError(.limitReached, "too much waits for the peer"))
            }
        }
        return nil
    }

    private static func decodeAgain(_ ops: inout ByteBuffer) -> Op? {
        do {
            return try ops.readOp()
        } catch {
            preconditionFailure("it was read once already: \(error)")
        }
    }
}

extension ByteBuffer {
    /// The same bytes in a place of their own.
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
