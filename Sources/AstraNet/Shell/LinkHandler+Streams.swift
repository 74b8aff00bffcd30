internal import NIOCore

/// Ops of streams: dials are answered, the rest goes to the stream's state machine, and what that asks for is done.
extension LinkHandler {
    func takeDial(_ op: Op) {
        let local = node.address(port: op.header.destination.port)
        let remote = op.header.source
        let key = StreamTable.Key(remote: remote, localPort: local.port)
        guard streams[key] == nil else { return }
        guard let listener = node.listener(on: local.port, for: remote.host, over: link) else {
            return refuse(remote, local, "nobody listens on \(local)")
        }
        guard streams.halfOpenCount < node.configuration.maximumHalfOpenPerLink else {
            node.counters.refusedStreams.add(1, ordering: .relaxed)
            return refuse(remote, local, "\(local.host) takes no more dials of this link before others are confirmed")
        }
        guard link.takeStreamPlace() else {
            return refuse(remote, local, "\(local.host) takes no more streams of this link")
        }
        let isEager = can(.eager, with: remote.host)
        let stream = Stream(state: .listener(isEager: isEager), localPort: local.port, remote: remote, link: link)
        streams.insert(stream, halfOpenSince: isEager ? nil : now)
        guard !isEager || listener.accept(stream) else {
            node.counters.refusedStreams.add(1, ordering: .relaxed)
            remove(stream)
            return refuse(remote, local, "\(local) has as many streams as it may have that nobody has taken yet")
        }
        // Whatever the one who took it says leaves behind this.
        let syn = OpHeader(.syn, to: remote, from: local)
        if isEager, listener.answersSoon {
            link.sendControlPatiently { $0.writeOp(syn) }
        } else {
            link.sendControl { $0.writeOp(syn) }
        }
    }

    /// Answers a dial that leads nowhere, where the dialer understands that.
    private func refuse(_ remote: Address, _ local: Address, _ message: String) {
        guard can(.refuse, with: remote.host) else { return }
        link.sendControl { $0.writeOp(OpHeader(.err, to: remote, from: local), text: message) }
    }

    /// - Parameter shared: where the bytes of a DATA are that it does not carry.
    func takeStreamOp(_ op: Op, shared: (place: SharedPlace, memory: SharedMemory)? = nil) {
        let key = StreamTable.Key(remote: op.header.source, localPort: op.header.destination.port)
        guard let stream = streams[key] else { return passToSiblings(op) }
        var queueWake = false
        var queueFlush = false
        var failure: AstraNetError?
        var accept = false
        var isForgotten = false
        var isOverfull = false
        var reply: Command?
        var lost: AstraNetError?
        stream.withStorage { storage in
            func take(_ action: StreamState.PeerEndAction) {
                guard action != .doNothing else { return }
                isForgotten = action == .forget
                if storage.state.queued == 0 { storage.desk?.work.outbox.removeAll() }
                queueWake = storage.queueWake()
                queueFlush = !isForgotten && storage.markDirty()
            }
            func take(_ action: StreamState.ReceivedCreditAction) {
                switch action {
                case .doNothing: break
                case .resumeSending: queueFlush = storage.sendingIsDue()
                case .failStream(let error): failure = error
                }
            }
            switch op.header.command {
            case .data where op.payload.readableBytes > 0 || shared != nil:
                switch storage.state.receivedData(shared?.place.count ?? op.payload.readableBytes) {
                case .drop: break
                case .failStream(let error): failure = error
                case .deliver:
                    var unread = op.payload
                    if let (place, memory) = shared {
                        do throws(AstraNetError) {
                            unread = try Self.read(place, of: memory)
                        } catch {
                            lost = error
                            break
                        }
                    }
                    if storage.desk?.work.filling != nil {
                        unread = storage.fill(unread)
                        if storage.filled != nil { queueWake = storage.queueWake() }
                        queueFlush = storage.creditIsDue(isDry: false)
                        if unread.readableBytes == 0 { break }
                    }
                    guard link.buffered.take(unread.readableBytes) else {
                        isOverfull = true
                        failure = AstraNetError(.limitReached, "too many bytes wait to be read on this node")
                        break
                    }
                    let desk = storage.atDesk()
                    desk.work.inbox.writeImmutableBuffer(unread)
                    if desk.work.reader != nil { queueWake = storage.queueWake() }
                }
            case .rewind:
                guard let count = op.payload.number else { break }
                take(storage.state.receivedRewind(count))
            case .windowSize:
                guard let size = op.payload.number else { break }
                take(storage.state.receivedWindowSize(size))
            case .syn:
                let action = storage.state.receivedSyn()
                if action != .doNothing {
                    if action == .sendAck { reply = .ack }
                    queueWake = storage.queueWake()
                    queueFlush = storage.sendingIsDue()
                }
            case .ack:
                if storage.state.receivedAck() == .sendSynAckAndAccept {
                    reply = .synAck
                    accept = true
                    queueFlush = storage.sendingIsDue()
                }
            case .fin1: take(storage.state.receivedFin1())
            case .fin2: take(storage.state.receivedFin2())
            case .err:
                let code: AstraNetError.Code = storage.state.phase == .dialing ? .refused : .failedByPeer
                failure = AstraNetError(code, String(buffer: op.payload.prefix(1_024)))
            case .forceClosed:
                failure = AstraNetError(.failedByPeer, "the peer closed the stream by force")
            default: break
            }
        }
        if let lost { return close(lost) }
        if isForgotten { remove(stream) }
        if let reply {
            link.sendControl { $0.writeOp(OpHeader(reply, to: stream.remoteAddress, from: stream.localAddress)) }
        }
        if accept {
            streams.opened(stream)
            if !node.accept(stream) { stream.fail("nobody listens on \(stream.localAddress)") }
        }
        if let failure {
            if isOverfull {
                node.counters.overfullStreams.add(1, ordering: .relaxed)
                tellFailure(of: stream, failure.message)
            } else if failure.code == .protocolViolation {
                log.warning("peer broke a stream's rules", metadata: ["error": "\(failure)"])
                tellFailure(of: stream, failure.message)
            }
            forget(stream, failure)
        }
        if queueWake { toWake.append(stream) }
        if queueFlush { link.markDirty(stream) }
    }

    /// How many links to one host are asked for a stream.
    private static let siblings = 4

    /// An op for a stream that this link does not know. A router with two links here may answer over either, whichever the
    /// stream was dialled over; what comes late, for a stream that has ended, is nobody's.
    ///
    /// What waits for the event loops of the others counts as what is forwarded does, and as there the stream fails whose bytes are
    /// too many.
    private func passToSiblings(_ op: Op) {
        guard let peer, op.header.source.host != peer else { return }
        let siblings = node.links(to: peer, except: link, atMost: Self.siblings)
        guard !siblings.isEmpty else { return }
        let size = (Self.passedSize + op.payload.readableBytes) * siblings.count
        let isBytes = op.header.command == .data
        guard link.takePassing(size, isUrgent: !isBytes) else {
            guard isBytes else { return close(AstraNetError(.limitReached, "the peer sends more than is taken")) }
            let message = "too many bytes wait to be taken on this node"
            link.sendControl { $0.writeFailure(message, to: op.header.source, from: op.header.destination) }
            let failure = OpHeader(.err, to: op.header.destination, from: op.header.source)
            return passToSiblings(Op(header: failure, payload: ByteBuffer(string: message)))
        }
        // What waits must not hold on to all that was read with it.
        let passed = Op(header: op.header, payload: ByteBuffer(copying: op.payload))
        let link = link
        let share = size / siblings.count
        for sibling in siblings {
            sibling.eventLoop.execute {
                link.givePassing(share)
                sibling.handler.value?.takeFromSibling(passed)
            }
        }
    }

    /// What an op takes that waits for another link's event loop, besides its payload.
    private static let passedSize = 512

    private func takeFromSibling(_ op: Op) {
        let key = StreamTable.Key(remote: op.header.source, localPort: op.header.destination.port)
        guard streams[key] != nil else { return }
        takeStreamOp(op)
        wakeAll()
        flush()
    }

    /// The stream is over on this side of the link; its waiters are told at the end of the read.
    func forget(_ stream: Stream, _ error: AstraNetError) {
        remove(stream)
        failLocally(stream, error)
    }

    /// The link knows the stream no longer.
    func remove(_ stream: Stream) {
        guard streams.remove(stream) else { return }
        link.giveStreamPlace()
        let limit = stream.withStorage { $0.state.receiveWindow.limit }
        extraWindow -= Int(limit - SendWindow.initialSize)
    }

    func failLocally(_ stream: Stream, _ error: AstraNetError) {
        let queueWake = stream.withStorage { storage -> Bool in
            guard storage.state.fail(error) != .doNothing else { return false }
            storage.desk?.work.outbox.removeAll()
            return storage.queueWake()
        }
        if queueWake { toWake.append(stream) }
    }

    func tellFailure(of stream: Stream, _ message: String) {
        link.sendControl { $0.writeFailure(message, to: stream.remoteAddress, from: stream.localAddress) }
    }

    func wakeAll() {
        // Waking runs other code only in other tasks, except for onPeerGone's, which may queue more.
        while !toWake.isEmpty {
            var streams: [Stream] = []
            swap(&streams, &toWake)
            for stream in streams { stream.wake() }
        }
    }
}

extension Stream.Storage {
    /// Puts the stream on the list of those to wake; whether the caller must do it.
    mutating func queueWake() -> Bool {
        guard !isWakeQueued else { return false }
        isWakeQueued = true
        return true
    }
}

extension ByteBuffer {
    /// The number that is the payload of REWIND and WND_SIZE; `nil` where it is something else.
    var number: UInt32? { readableBytes == 4 ? getInteger(at: readerIndex) : nil }

    /// The first `length` bytes, or all where there are fewer.
    func prefix(_ length: Int) -> ByteBuffer {
        getSlice(at: readerIndex, length: min(length, readableBytes))!
    }

    /// ERR with a message, then FIN1 and FIN2: a Go peer does not end a read at ERR.
    mutating func writeFailure(_ message: String, to remote: Address, from local: Address) {
        writeOp(OpHeader(.err, to: remote, from: local), text: message)
        writeOp(OpHeader(.fin1, to: remote, from: local))
        writeOp(OpHeader(.fin2, to: remote, from: local))
    }
}
