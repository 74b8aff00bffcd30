package import NIOCore

/// Forwards ops for other hosts, unchanged, to the links of those hosts. Belongs to the event loop of the link that the
/// ops come from.
///
/// Runs of at least a quarter of the read buffer are forwarded without a copy.
final class LinkForwarder {
    /// Consecutive ops of a read that go to the same link. They are forwarded together.
    struct Run {
        fileprivate var target: Link?
        fileprivate var start = 0
        fileprivate var end = 0
    }

    private let node: NodeCore
    private let link: Link
    /// Cached routes: the link of each host that this link has forwarded to.
    private var routes: [HostID: Link] = [:]
    /// Number of cached routes at which routes with a closed link are removed.
    private var sweepThreshold = LinkForwarder.minimumSweepThreshold

    private static let minimumSweepThreshold = 64
    /// The last identity of the link and its text.
    private var textOf: (identity: LinkIdentity, text: String?) = (.unknown, nil)

    init(_ link: Link) {
        node = link.node
        self.link = link
    }

    /// Forwards an op for another host.
    ///
    /// - Parameters:
    ///   - range: the position of the op in `bytes`.
    ///   - bytes: the read buffer.
    ///   - run: the current run, to which the op is appended if possible. Otherwise the run is sent and a new one
    ///     begins.
    /// - Returns: the error that must close the link; usually `nil`.
    func take(
        _ op: Op, at range: Range<Int>, of bytes: ByteBuffer, from peer: LinkPeer, _ run: inout Run
    ) -> AstraNetError? {
        let host = op.header.destination.host
        // A peer must not send ops in the name of other hosts. Larger payloads are an ability that does not pass a
        // router.
        guard op.header.source.host == peer.host else {
            if link.identity.rules != nil { node.forgedOp(of: op.header.source.host, from: link, node.log) }
            return nil
        }
        guard op.payload.readableBytes <= Op.maximumPayload else { return nil }
        guard let target = route(to: host, for: op.header.command) else {
            if node.configuration.role == .router, op.header.command != .rst {
                link.sendControl { $0.writeReset(of: host, to: op.header.source.host) }
            }
            return nil
        }
        if op.header.command == .dial {
            if target.isSilent.load(ordering: .relaxed), refuses(op, from: peer) { return nil }
            if let payload = DialBlock.replacingIdentity(in: op.payload, with: identityText) {
                return forward(Op(header: op.header, payload: payload), to: target, after: &run, of: bytes)
            }
        } else if op.header.command == .service,
            !node.mayForward(announcementOf: String(buffer: op.payload), from: link)
        {
            node.counters.forbiddenServices.add(1, ordering: .relaxed)
            return nil
        }
        if run.target === target, run.end == range.lowerBound {
            run.end = range.upperBound
            return nil
        }
        let failure = finish(&run, of: bytes)
        run = Run(target: target, start: range.lowerBound, end: range.upperBound)
        return failure
    }

    /// The identity of the peer as the DIALs that are forwarded contain it; `nil` if it has none.
    private var identityText: String? {
        let identity = link.identity
        if identity !== textOf.identity {
            textOf = (identity, RelayedIdentity.text(of: identity.credentials))
        }
        return textOf.text
    }

    /// Forwards an op that differs from the received one, behind the current run.
    private func forward(_ op: Op, to target: Link, after run: inout Run, of bytes: ByteBuffer) -> AstraNetError? {
        let failure = finish(&run, of: bytes)
        var ops = ByteBuffer()
        ops.writeOp(op)
        return send(ops, to: target) ?? failure
    }

    /// Refuses a DIAL for a host that is silent while another host offers the service, so that the dialer tries that
    /// one. Returns whether it did.
    private func refuses(_ dial: Op, from peer: LinkPeer) -> Bool {
        // Go nodes do not understand the refusal.
        guard peer.can(.refuse, with: dial.header.source.host),
            node.directory.hasBetterOffer(than: dial.header.destination)
        else { return false }
        let header = OpHeader(.err, to: dial.header.source, from: dial.header.destination)
        link.sendControl { $0.writeOp(header, text: "\(dial.header.destination.host) does not answer its router") }
        return true
    }

    /// Forwards the ops of the current run.
    ///
    /// - Returns: the error that must close the link; usually `nil`.
    func finish(_ run: inout Run, of bytes: ByteBuffer) -> AstraNetError? {
        guard let target = run.target, let slice = bytes.getSlice(at: run.start, length: run.end - run.start) else {
            return nil
        }
        run.target = nil
        // A slice keeps the whole read buffer in memory, so a small part of the buffer is copied.
        let ops = slice.readableBytes >= bytes.storageCapacity / 4 ? slice : ByteBuffer(copying: slice)
        return send(ops, to: target)
    }

    /// - Returns: the error that must close the link; usually `nil`.
    private func send(_ ops: ByteBuffer, to target: Link) -> AstraNetError? {
        switch target.forward(ops, from: link) {
        case .done: break
        case .full, .sourceIsFull: return refuse(ops, to: target)
        case .closed: routes = routes.filter { $0.value !== target }
        }
        return nil
    }

    /// Clears the cached routes because the link has ended.
    func end() {
        routes = [:]
    }

    private func route(to host: HostID, for command: Command) -> Link? {
        if let known = routes[host], !known.isClosed { return known }
        let hasStreams = command.isOfStreams || command == .dial
        let found = node.directory.route(from: link, to: host, hasStreams: hasStreams)
        // A cached route would hide from the node that streams use it.
        guard hasStreams else { return found }
        routes[host] = found
        if routes.count >= sweepThreshold {
            // A route to a host that has gone is never looked up again, so only this removes it.
            routes = routes.filter { !$0.value.isClosed }
            sweepThreshold = max(Self.minimumSweepThreshold, 2 * routes.count)
        }
        return found
    }

    /// Handles ops that exceed a forwarding limit: fails the streams of the DATA ops at both ends, and forwards the
    /// other ops.
    ///
    /// The other ops are queued behind earlier DATA. Otherwise a stream could seem to end before its last bytes.
    ///
    /// - Returns: the error that must close the link; usually `nil`.
    private func refuse(_ ops: ByteBuffer, to target: Link) -> AstraNetError? {
        var ops = ops
        var failed: Set<StreamTable.Key> = []
        while let op = Self.readAgain(&ops) {
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
            switch target.forward(urgent, from: link, isUrgent: true) {
            case .done, .closed: break
            // Only a peer that ignores credit fills the reserve too. Dropping the op would leave a stream waiting for
            // ever, so the link must be closed.
            case .sourceIsFull: return AstraNetError(.limitReached, "the peer sends more than its receivers read")
            case .full: target.close(AstraNetError(.limitReached, "too many forwarded bytes wait for the peer"))
            }
        }
        return nil
    }

    private static func readAgain(_ ops: inout ByteBuffer) -> Op? {
        do {
            return try ops.readOp()
        } catch {
            preconditionFailure("an op that was decoded before does not decode again: \(error)")
        }
    }
}

extension ByteBuffer {
    /// Creates a buffer with a copy of the readable bytes in memory of its own.
    package init(copying bytes: ByteBuffer) {
        self = ByteBufferAllocator().buffer(capacity: bytes.readableBytes)
        bytes.withUnsafeReadableBytes { source in
            _ = writeWithUnsafeMutableBytes(minimumWritableBytes: source.count) { target in
                target.copyMemory(from: source)
                return source.count
            }
        }
    }
}
