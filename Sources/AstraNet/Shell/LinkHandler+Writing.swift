internal import DequeModule
internal import NIOCore

/// What leaves: control ops first, then announcements that were held, then the bytes of the dirty streams in turn, in rounds as
/// large as the connection takes.
extension LinkHandler {
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            state.unstalled()
            stalledControl = 0
            flush()
        } else {
            state.wrote(now: now, isStalled: true)
            link.holdAnnouncements()
        }
        context.fireChannelWritabilityChanged()
    }

    /// Calls the delegates that other threads want to be called, and sends what there is: control ops, then the DIALs of new
    /// streams, then bytes of the dirty streams in turn, up to what the connection takes.
    func flush() {
        guard let context else { return }
        toWake.append(contentsOf: link.takeToWake())
        wakeAll()
        var packer = OpPacker(allocator: context.channel.allocator) { self.send($0) }
        let outbound = link.takeOutbound(
            isWritable: context.channel.isWritable,
            isJoined: closesWhenFlushed || !backlog.isEmpty || !opening.isEmpty || !forwardBacklog.isEmpty)
        packer.write(outbound.control)
        opening.append(contentsOf: outbound.opening)
        backlog += outbound.dirty
        forwardBacklog += outbound.forwarded
        if !outbound.toWake.isEmpty {
            // Those that were queued meanwhile, by the delegates that were just called or by another thread.
            toWake.append(contentsOf: outbound.toWake)
            wakeAll()
        }
        guard context.channel.isWritable else {
            packer.finish()
            context.flush()
            guardControl(packer.written)
            return
        }
        guard !outbound.isBehind else {
            // A name must be announced before the bytes that tell it.
            packer.finish()
            hasWritten(to: context)
            return flushAgain(context)
        }
        while packer.written < Self.bytesPerRound, let stream = opening.popFirst() { open(stream, &packer) }
        forward(into: &packer)
        var next = 0
        var later: [Stream] = []
        // A stream's bytes and its end come behind its DIAL, and the end of a request behind the DIALs of its sources.
        while opening.isEmpty, next < backlog.count, packer.written < Self.bytesPerRound {
            let stream = backlog[next]
            next += 1
            switch drain(stream, into: &packer) {
            case .idle: break
            case .more: backlog.append(stream)
            case .later: later.append(stream)
            case .ended: remove(stream)
            }
        }
        backlog.removeFirst(next)
        backlog += later
        packer.finish()
        if packer.written > 0 { hasWritten(to: context) }
        if next > 0 { link.hurryAfterBytes() }
        wakeAll()
        closeIfFlushed()
        if !backlog.isEmpty || !opening.isEmpty || !forwardBacklog.isEmpty { flushAgain(context) }
    }

    /// Sends the DIAL of a new stream. The bytes of an eager stream follow at once.
    private func open(_ stream: Stream, _ packer: inout OpPacker) {
        guard streams[stream.key] == nil else {
            // The port numbers have wrapped around, and an old stream has this one.
            link.giveStreamPlace()
            settleOffer(of: stream, isAnswered: true)
            return failLocally(stream, AstraNetError(.refused, "\(stream.localAddress) is in use"))
        }
        streams.insert(stream, halfOpenSince: nil)
        let (block, isDirty) = stream.withStorage { storage -> (DialBlock?, Bool) in
            let block = storage.dialBlock
            if let active = storage.active, active.state.dialContext != nil {
                active.state.dialContext = nil
                storage.deactivateIfIdle()
            }
            return (block, storage.sendingIsDue())
        }
        let header = OpHeader(.dial, to: stream.remoteAddress, from: stream.localAddress)
        if let block { packer.write(header, block) } else { packer.write(header) }
        if isDirty { backlog.append(stream) }
    }

    private func hasWritten(to context: ChannelHandlerContext) {
        context.flush()
        state.wrote(now: now, isStalled: !context.channel.isWritable)
    }

    /// Sends what is left in another round, after what else the event loop was told to do; a full connection tells when it takes
    /// more. What comes in waits until then: a loop does all that it was told, what it is told meanwhile included, before it looks
    /// at its sockets. It is not for long: without credit that comes in, streams have nothing left to send.
    private func flushAgain(_ context: ChannelHandlerContext) {
        guard context.channel.isWritable else { return }
        let link = link
        context.eventLoop.execute { link.handler.value?.flush() }
    }

    /// Ops from other links, at most half of a round, so that this node's own streams have their turn.
    private func forward(into packer: inout OpPacker) {
        while packer.written < Self.bytesPerRound / 2, let forwarded = forwardBacklog.popFirst() {
            forwarded.give(by: link)
            packer.write(forwarded.ops)
        }
    }

    /// At most so much goes to the connection before it is asked again whether it takes more.
    private static let bytesPerRound = 1 << 20
    /// So much unsent control data means a peer that asks and does not read.
    private static let controlLimit = 4 << 20

    /// Answers to a peer that reads nothing must not pile up without end.
    private func guardControl(_ written: Int) {
        stalledControl += written
        if stalledControl > Self.controlLimit {
            close(AstraNetError(.limitReached, "the peer does not read the answers to its ops"))
        }
    }

    private enum Drained {
        case idle, more, ended
        /// Its end waits for DIALs that leave with the next flush.
        case later
    }

    /// Sends a stream's credit, an op's worth of its bytes, and its ending when all bytes are gone.
    private func drain(_ stream: Stream, into packer: inout OpPacker) -> Drained {
        var wakes = false
        var lingers = false
        // Released outside the lock: it may be a plugin's memory.
        var spent = Deque<ByteBuffer>()
        let result = stream.withStorage { storage -> Drained in
            storage.isDirty = false
            let credit = storage.state.takeCredit()
            if credit > 0 {
                let window = storage.state.receiveWindow
                if can(.window, with: stream.remoteAddress.host),
                    let larger = storage.tuning.credited(
                        credit, unread: window.unread, limit: window.limit, largest: largestWindow, now: now,
                        roundTrip: link.roundTrip.load(ordering: .relaxed)),
                    affordsWindow(Int(larger - window.limit))
                {
                    storage.state.growReceiveWindow(to: larger)
                    packer.write(
                        OpHeader(.windowSize, to: stream.remoteAddress, from: stream.localAddress), number: larger)
                }
                packer.write(OpHeader(.rewind, to: stream.remoteAddress, from: stream.localAddress), number: credit)
            }
            var left = min(storage.state.sendable, payloadLimit(for: stream.remoteAddress.host))
            while left > 0 {
                let active = storage.activate()
                let size = min(left, active.state.outbox[0].readableBytes)
                let bytes = active.state.outbox[0].readSlice(length: size)!
                if stream.remoteAddress.host == peer, let place = share(bytes) {
                    packer.write(OpHeader(.shared, to: stream.remoteAddress, from: stream.localAddress), place)
                } else {
                    packer.write(
                        OpHeader(.data, to: stream.remoteAddress, from: stream.localAddress), payload: bytes)
                }
                if active.state.outbox[0].readableBytes == 0 {
                    let last = active.state.outbox.removeFirst()
                    if last.storageCapacity >= OpPacker.copyLimit { spent.append(last) }
                }
                storage.state.sent(size)
                left -= size
            }
            if let active = storage.active, storage.hasRoom,
                active.state.reportsRoom || active.state.waiters[.writing] != nil
            {
                active.state.reportsRoom = false
                wakes = storage.queueWake()
            }
            storage.deactivateIfIdle()
            // Another thread pushed sources of this request and ended it after the streams to open were taken, and the request was
            // on the list already.
            if storage.endsPushing, link.hasStreamsToOpen {
                storage.isDirty = true
                return .later
            }
            switch storage.state.takeEnding() {
            case .wait:
                lingers = storage.state.isLingering
                return storage.state.sendable > 0 && storage.markDirty() ? .more : .idle
            case .sendFin2:
                packer.write(OpHeader(.fin2, to: stream.remoteAddress, from: stream.localAddress))
                return .idle
            case .sendFin1AndFin2AndForget:
                packer.write(OpHeader(.fin1, to: stream.remoteAddress, from: stream.localAddress))
                packer.write(OpHeader(.fin2, to: stream.remoteAddress, from: stream.localAddress))
                return .ended
            case .sendFin1AndFin2:
                packer.write(OpHeader(.fin1, to: stream.remoteAddress, from: stream.localAddress))
                packer.write(OpHeader(.fin2, to: stream.remoteAddress, from: stream.localAddress))
                return .idle
            case .sendErrAndForget(let message):
                packer.writeFailure(message, of: stream)
                return .ended
            case .sendErr(let message):
                packer.writeFailure(message, of: stream)
                // Its owner may have forgotten it.
                lingers = true
                return .idle
            }
        }
        withExtendedLifetime(spent) {}
        if wakes { toWake.append(stream) }
        if lingers {
            streams.lingers(stream, since: now)
        }
        return result
    }

    private var largestWindow: UInt32 {
        UInt32(clamping: max(node.configuration.maximumWindow, Int(SendWindow.initialSize)))
    }

    /// Windows beyond what the protocol gives every stream may grow to a quarter of what the link may hold.
    private func affordsWindow(_ more: Int) -> Bool {
        guard extraWindow + more <= node.configuration.maximumBufferedPerLink / 4 else { return false }
        extraWindow += more
        return true
    }

    func send(_ bytes: ByteBuffer) {
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }
}

extension OpPacker {
    /// ERR with a message, then FIN1 and FIN2.
    fileprivate mutating func writeFailure(_ message: String, of stream: Stream) {
        var ops = ByteBuffer()
        ops.writeFailure(message, to: stream.remoteAddress, from: stream.localAddress)
        write(ops)
    }
}
