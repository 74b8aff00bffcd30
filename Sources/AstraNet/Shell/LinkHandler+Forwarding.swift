internal import NIOCore

/// Ops that are back to back in what was read and go to the same link, so that they leave as one piece.
struct ForwardRun {
    var way: Link?
    var start = 0
    var end = 0
}

/// A router's work: ops for other hosts go to their links as they are, without a copy of what is large, a quarter of a read and more.
extension LinkHandler {
    /// Takes an op for another host, which stands at `start..<end` of what was read.
    func forward(_ op: Op, from start: Int, to end: Int, of bytes: ByteBuffer, _ run: inout ForwardRun) {
        let host = op.header.destination.host
        // Nobody speaks for others behind a router, and abilities end at it.
        guard op.header.source.host == peer, op.payload.readableBytes <= Op.maximumPayload else { return }
        guard let way = way(to: host) else {
            if node.configuration.role == .router, op.header.command != .rst {
                link.sendControl { $0.writeReset(of: host, to: op.header.source.host) }
            }
            return
        }
        if run.way === way, run.end == start {
            run.end = end
        } else {
            finish(&run, of: bytes)
            run = ForwardRun(way: way, start: start, end: end)
        }
    }

    /// Hands over what has been collected.
    func finish(_ run: inout ForwardRun, of bytes: ByteBuffer) {
        guard let way = run.way, let slice = bytes.getSlice(at: run.start, length: run.end - run.start) else { return }
        run.way = nil
        // A slice holds on to all that was read, so what is a small part of that is copied.
        let ops = slice.readableBytes >= bytes.storageCapacity / 4 ? slice : ByteBuffer(copying: slice)
        switch way.forward(ops, from: link) {
        case .done: break
        case .full, .sourceIsFull: refuseToForward(ops, to: way)
        case .closed: routes = routes.filter { $0.value !== way }
        }
    }

    private static func readAgain(_ ops: inout ByteBuffer) -> Op? {
        do {
            return try ops.readOp()
        } catch {
            preconditionFailure("it was read once already: \(error)")
        }
    }

    private func way(to host: HostID) -> Link? {
        if let known = routes[host], !known.isClosed { return known }
        let found = node.route(from: link, to: host)
        routes[host] = found
        if routes.count >= routeSweep {
            // Hosts come and go, and a route to one that has gone is never asked for again.
            routes = routes.filter { !$0.value.isClosed }
            routeSweep = max(64, 2 * routes.count)
        }
        return found
    }

    /// The link to the destination has as much to send as it may: the streams whose bytes come now fail at both ends, the
    /// others go on. What is no stream's bytes keeps its place behind those, or a stream could seem to end before them.
    private func refuseToForward(_ ops: ByteBuffer, to way: Link) {
        var ops = ops
        var failed: Set<StreamTable.Key> = []
        while closeReason == nil, let op = Self.readAgain(&ops) {
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
            // Nobody who heeds credit comes here, and with anything less than its end some stream would wait for ever.
            case .sourceIsFull: close(AstraNetError(.limitReached, "the peer sends more than others take"))
            case .full: way.close(AstraNetError(.limitReached, "too much waits for the peer"))
            }
        }
    }
}

extension ByteBuffer {
    /// The same bytes in a place of their own.
    init(copying bytes: ByteBuffer) {
        self = ByteBufferAllocator().buffer(capacity: bytes.readableBytes)
        writeImmutableBuffer(bytes)
    }
}
