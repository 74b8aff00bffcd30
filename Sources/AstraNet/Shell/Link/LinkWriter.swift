internal import DequeModule
internal import NIOCore

/// The writer of a link: packs outbound ops into rounds. Belongs to the event loop of its link.
///
/// A round has control ops, held announcements, the DIALs of new streams, forwarded ops and the bytes of streams in
/// turn, in this order.
///
/// Its variables have no run-time check for overlapping accesses (see ``LinkHandler``). Accesses do not overlap: all of
/// them are made on the event loop. While ``packer`` is changed in place, only other variables (``backlog``,
/// ``opening``) are accessed, and no called code calls this writer.
final class LinkWriter {
    /// The result of packing one round.
    struct Round {
        /// Number of packed bytes, which ``LinkWriter/takeBuffers()`` returns.
        var size = 0
        /// Whether announcements are still held. Then the round has no bytes of streams, because a name must be
        /// announced before the bytes that contain it.
        var isBehind = false
        /// Whether the round processed streams that had something to send.
        var hasStreams = false
        /// Whether the link closes when all bytes have been sent.
        var isFlushing = false
    }

    /// Size after which a round ends and the connection's writability is checked again, in bytes (1 MiB).
    private static let bytesPerRound = 1 << 20

    private let link: Link
    private let streams: LinkStreams
    /// Streams that have something to send and wait for the next round.
    @exclusivity(unchecked) private var backlog: [MeshStream] = []
    /// New streams whose DIAL waits for the next round.
    @exclusivity(unchecked) private var opening = Deque<MeshStream>()
    /// Ops from other links that wait for the next round.
    @exclusivity(unchecked) private var forwarded: Deque<Link.Forwarded> = []
    @exclusivity(unchecked) private var packer: OpPacker
    /// Work that a round takes from the link; empty between rounds. It is stored to reuse its memory.
    @exclusivity(unchecked) private var outbound = Outbox.Outbound()

    init(_ link: Link, _ streams: LinkStreams) {
        self.link = link
        self.streams = streams
        packer = OpPacker(allocator: link.channel.allocator)
    }

    /// Whether streams, DIALs or forwarded ops wait for the next round.
    var hasMore: Bool { hasBacklog || !forwarded.isEmpty }

    /// Whether streams or DIALs wait for the next round.
    var hasBacklog: Bool { !backlog.isEmpty || !opening.isEmpty }

    /// Packs one round.
    ///
    /// - Parameter isWritable: whether the connection is writable. If not, only control ops are packed.
    func pack(isWritable: Bool, _ machine: inout LinkMachine) -> Round {
        link.takeOutbound(into: &outbound, isWritable: isWritable, isJoined: machine.isFlushing || hasMore)
        var round = Round(isBehind: outbound.isBehind, isFlushing: machine.isFlushing)
        packer.begin(with: &outbound.control)
        for stream in outbound.opening { opening.append(stream) }
        if backlog.isEmpty { swap(&backlog, &outbound.dirty) } else { backlog += outbound.dirty }
        if !outbound.forwarded.isEmpty { forwarded += outbound.forwarded }
        // Other threads may have queued wakes since `takeItems`.
        streams.queueItems(outbound.items)
        outbound.emptyLists()
        outbound.isBehind = false
        if isWritable, !round.isBehind, hasMore, let peer = machine.peer {
            while packer.written < Self.bytesPerRound, let stream = opening.popFirst() { open(stream, &packer) }
            forward(into: &packer)
            round.hasStreams = packBacklog(into: &packer, peer, &machine)
        }
        round.size = packer.written
        return round
    }

    /// Removes and returns the buffers of a round.
    func takeBuffers() -> [ByteBuffer] { packer.takeBuffers() }

    /// Reuses the memory of the written array, and of its last buffer if that is small.
    func reuse(_ buffers: consuming [ByteBuffer]) { packer.reuse(buffers) }

    /// Ends the writer because the link has ended.
    ///
    /// - Parameter unsent: work that no round has taken.
    /// - Returns: the streams whose DIAL was not sent.
    func end(_ unsent: Outbox.Outbound) -> [MeshStream] {
        defer {
            opening = []
            backlog = []
            forwarded = []
        }
        for ops in unsent.forwarded + forwarded { ops.give(by: link) }
        return unsent.opening + opening
    }

    /// Packs the DIAL of a new stream. The bytes of an eager stream follow in the same round.
    private func open(_ stream: MeshStream, _ packer: inout OpPacker) {
        guard streams.begin(stream) else { return }
        let header = OpHeader(.dial, to: stream.remoteAddress, from: stream.localAddress)
        let isDirty = stream.withStorage { storage -> Bool in
            if let block = storage.dialBlock { packer.write(header, block) } else { packer.write(header) }
            if let active = storage.active, active.state.dialContext != nil {
                active.state.dialContext = nil
                storage.deactivateIfIdle()
            }
            return storage.sendingIsDue()
        }
        if isDirty { backlog.append(stream) }
    }

    /// Packs ops from other links, up to half of a round. The rest of the round is for this node's own streams.
    private func forward(into packer: inout OpPacker) {
        while packer.written < Self.bytesPerRound / 2, let ops = forwarded.popFirst() {
            ops.give(by: link)
            packer.write(ops.ops)
        }
    }

    /// Packs bytes of the streams in ``backlog``, one op each in turn. Returns whether it processed any stream.
    private func packBacklog(into packer: inout OpPacker, _ peer: LinkPeer, _ machine: inout LinkMachine) -> Bool {
        var next = 0
        var later: [MeshStream] = []
        // All DIALs come first: a stream's bytes must follow its DIAL, and a request's end must follow the DIALs of its
        // sources.
        while opening.isEmpty, next < backlog.count, packer.written < Self.bytesPerRound {
            let stream = backlog[next]
            next += 1
            switch packStream(stream, into: &packer, peer, &machine) {
            case .idle: break
            case .more: backlog.append(stream)
            case .later: later.append(stream)
            case .ended: streams.remove(stream)
            }
        }
        if next == backlog.count { backlog.empty() } else { backlog.removeFirst(next) }
        backlog += later
        return next > 0
    }

    private enum Packed {
        case idle, more, ended
        /// The stream's end waits for DIALs that the next flush sends.
        case later
    }

    /// Packs a stream's credit, at most one op of its bytes, and its end if no bytes remain.
    private func packStream(
        _ stream: MeshStream, into packer: inout OpPacker, _ peer: LinkPeer, _ machine: inout LinkMachine
    ) -> Packed {
        let remote = stream.remoteAddress
        let local = stream.localAddress
        var wakes = false
        var lingers = false
        // The buffers are released outside the lock because their memory may belong to a plugin.
        var spent: [ByteBuffer] = []
        let result = stream.withStorage { storage -> Packed in
            storage.isDirty = false
            let credit = storage.state.takeCredit()
            if credit > 0 {
                if peer.can(.window, with: remote.host),
                    let larger = streams.largerWindow(for: &storage, credit: credit)
                {
                    packer.write(OpHeader(.windowSize, to: remote, from: local), number: larger)
                }
                packer.write(OpHeader(.rewind, to: remote, from: local), number: credit)
            }
            var left = min(storage.state.sendable, peer.payloadLimit(for: remote.host))
            while left > 0 {
                let active = storage.activate()
                let (bytes, isLast) = active.state.outbox.changeFirst { buffer in
                    let size = min(left, buffer.readableBytes)
                    return (buffer.readSlice(length: size)!, buffer.readableBytes == 0)
                }
                if remote.host == peer.host, let place = share(bytes, &machine) {
                    packer.write(OpHeader(.shared, to: remote, from: local), place)
                } else {
                    packer.write(OpHeader(.data, to: remote, from: local), payload: bytes)
                }
                if isLast, let last = active.state.outbox.popFirst(), last.storageCapacity >= OpPacker.copyLimit {
                    spent.append(last)
                }
                storage.state.sent(bytes.readableBytes)
                left -= bytes.readableBytes
            }
            if let active = storage.active, storage.hasCapacity,
                active.state.reportsRoom || active.state.waiters[.writing] != nil
            {
                active.state.reportsRoom = false
                wakes = storage.queueWake()
            }
            storage.deactivateIfIdle()
            // Another thread pushed sources of this request and ended it after this round took the streams to open. The
            // request was already in the backlog, so its end would overtake those DIALs.
            if storage.endsPushing, link.hasStreamsToOpen {
                storage.isDirty = true
                return .later
            }
            switch storage.state.takeEnding() {
            case .wait:
                lingers = storage.state.isLingering
                return storage.state.sendable > 0 && storage.markDirty() ? .more : .idle
            case .sendFin2:
                packer.write(OpHeader(.fin2, to: remote, from: local))
                return .idle
            case .sendFin1AndFin2AndForget:
                let fin1 = OpHeader(.fin1, to: remote, from: local)
                let fin2 = OpHeader(.fin2, to: remote, from: local)
                if remote.host != peer.host, let count = storage.pushedCount {
                    packer.write(fin1)
                    packer.write(fin2, number: count)
                } else {
                    packer.write(fin1, fin2)
                }
                return .ended
            case .sendFin1AndFin2:
                packer.write(OpHeader(.fin1, to: remote, from: local), OpHeader(.fin2, to: remote, from: local))
                return .idle
            case .sendErrAndForget(let message):
                packer.writeFailure(message, to: remote, from: local)
                return .ended
            case .sendErr(let message):
                packer.writeFailure(message, to: remote, from: local)
                // The owner may have released the stream, so the link needs a deadline for the client's answer.
                lingers = true
                return .idle
            }
        }
        withExtendedLifetime(spent) {}
        if wakes { streams.scheduleWake(stream) }
        if lingers { streams.lingers(stream) }
        return result
    }

    /// Copies `bytes` into the memory shared with the peer.
    ///
    /// - Returns: the place in the memory; `nil` if the bytes must be sent on the connection.
    private func share(_ bytes: ByteBuffer, _ machine: inout LinkMachine) -> SharedPlace? {
        guard let memory = link.memory, let offset = machine.share(bytes.readableBytes) else { return nil }
        bytes.withUnsafeReadableBytes { memory.write($0, at: offset) }
        return SharedPlace(offset: offset, count: bytes.readableBytes)
    }
}

extension OpPacker {
    /// Packs ERR with a message, then FIN1 and FIN2.
    fileprivate mutating func writeFailure(_ message: String, to remote: Address, from local: Address) {
        var ops = ByteBuffer()
        ops.writeFailure(message, to: remote, from: local)
        write(ops)
    }
}
