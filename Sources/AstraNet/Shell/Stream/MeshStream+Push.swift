package import NIOCore

/// Pushed sources (`docs/protocol.md` §6): the server opens a stream to the client for each source of a request.
///
/// The stream of a source is on the same link as the stream of the request, the *master stream*.
extension MeshStream {
    // MARK: - The client

    /// Whether this is a request of this node that allows the server to push sources.
    public var expectsPush: Bool {
        withStorage { storage in
            if case .receiving = storage.active?.state.pushes { true } else { false }
        }
    }

    /// The result of ``takeMasterEvent()`` on a master stream.
    package enum MasterEvent: Sendable {
        case pushed(MeshStream)
        /// Received bytes. The server announces named sources with them.
        case bytes(ByteBuffer)
        case finished
        case failed(AstraNetError)
        case nothing
    }

    /// Returns the next event of a master stream without waiting: a pushed source, else bytes, else the end. A returned
    /// source is accepted.
    package func takeMasterEvent() -> MasterEvent {
        let (pushed, flushesNow) = withStorage { storage -> (MeshStream?, Bool) in
            guard case .receiving(let receiver) = storage.active?.state.pushes,
                let pushed = receiver.offered.popFirst()
            else { return (nil, false) }
            receiver.unflushedAcceptances += 1
            let flushesNow =
                receiver.unflushedAcceptances >= receiver.flushThreshold && storage.state.reading == .open
            if flushesNow { receiver.unflushedAcceptances = 0 }
            return (pushed, flushesNow)
        }
        if let pushed {
            pushed.accept(flushesNow: flushesNow)
            return .pushed(pushed)
        }
        let received = takeReceived()
        switch received {
        case .bytes(let bytes): return .bytes(bytes)
        case .nothing: return .nothing
        case .finished, .failed:
            // Sources may have arrived together with the end after the check above. They come before the end.
            if withStorage({ $0.hasOffered }) { return takeMasterEvent() }
            guard case .failed(let error) = received else { return .finished }
            return .failed(error)
        }
    }

    /// Returns the next event of a master stream, and waits for one if necessary. A returned source is accepted.
    ///
    /// - Parameter deadline: the time at which the wait ends with an error; `nil` for none.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`; `CancellationError`.
    package nonisolated(nonsending) func nextMasterEvent(deadline: ContinuousClock.Instant?) async throws -> MasterEvent
    {
        let event = takeMasterEvent()
        guard case .nothing = event else { return event }
        return try await waitForMasterEvent(deadline: deadline)
    }

    /// Waits for the next event. It is not inlined, so that calls that do not wait save its allocations.
    @inline(never)
    private nonisolated(nonsending) func waitForMasterEvent(deadline: ContinuousClock.Instant?) async throws
        -> MasterEvent
    {
        while true {
            // The server may wait for the acceptances before it pushes more sources.
            flushAcceptances()
            try await wait(for: .masterEvent, deadline: deadline) { storage in
                storage.isReady(.masterEvent) ? .success(()) : nil
            } timeoutMessage: {
                "neither a source nor bytes arrived from \(self.remoteAddress) in time"
            }
            let event = takeMasterEvent()
            guard case .nothing = event else { return event }
        }
    }

    private func flushAcceptances() {
        let needsFlush = withStorage { storage -> Bool in
            guard case .receiving(let receiver) = storage.active?.state.pushes, receiver.unflushedAcceptances > 0
            else { return false }
            receiver.unflushedAcceptances = 0
            return true
        }
        if needsFlush { link.sendControl { _ in } }
    }

    /// Accepts a pushed source (SYN) because the consumer takes it.
    private func accept(flushesNow: Bool) {
        guard withStorage({ $0.state.accept() }) else { return }
        let syn = OpHeader(.syn, to: remoteAddress, from: localAddress)
        if flushesNow {
            link.sendControl { $0.writeOp(syn) }
        } else {
            link.sendControlDelayed { $0.writeOp(syn) }
        }
    }

    /// Declines a pushed source that the consumer has not taken.
    func decline() {
        close()
        let endedBefore = withStorage { storage -> Bool in
            guard storage.state.phase == .ended, case .over = storage.state.writing else { return false }
            return storage.state.offer == .received
        }
        if endedBefore { sendDecline() }
    }

    /// Sends FIN1 and FIN2 for a declined source that has already ended. The server keeps such a source until the
    /// client answers.
    func sendDecline() {
        link.sendControlDelayed { ops in
            ops.writeOp(OpHeader(.fin1, to: self.remoteAddress, from: self.localAddress))
            ops.writeOp(OpHeader(.fin2, to: self.remoteAddress, from: self.localAddress))
        }
    }

    /// Releases the bytes that were reserved for pushed sources. Call it after the server has ended the request. Does
    /// nothing while received sources are not taken.
    public func releaseGrant() {
        let reserved = withStorage { storage -> Int in
            guard let active = storage.active, case .receiving(let receiver) = active.state.pushes,
                receiver.offered.isEmpty
            else { return 0 }
            active.state.pushes = nil
            storage.deactivateIfIdle()
            return receiver.reserved
        }
        link.pushGrants.give(reserved)
    }

    /// Allows the server to push sources of this request. The caller must do so before ``Link/open(_:)``.
    func grantPush(_ grant: DialBlock.Push, reserved: Int) {
        withStorage { storage in
            storage.activate().state.pushes = .receiving(PushReceiver(grant: grant, reserved: reserved))
        }
    }

    /// Sets the deadline and tags that this node's DIAL carries. The caller must do so before ``Link/open(_:)``.
    func setContext(_ block: DialBlock) {
        withStorage { $0.activate().state.dialContext = DialContext(block) }
    }

    // MARK: - The server

    /// Stores the block of a received DIAL until ``takeDial()``.
    ///
    /// - Parameter mayPush: whether this node may push sources at once, because the dialer is known to receive at its
    ///   address.
    func keep(_ block: DialBlock, mayPush: Bool) {
        let deadline = block.deadlineMilliseconds.map { now + .milliseconds(Int64($0)) }
        withStorage { storage in
            let active = storage.activate()
            active.state.dialContext = DialContext(block, deadline: deadline)
            if mayPush, let grant = block.push, grant.maximumSources > 0 {
                active.state.pushes = .sending(PushSender(grant: grant))
            }
        }
    }

    /// Allows this node to push sources because the dialer has proved with a cookie that it receives at its address.
    func mayPush() {
        withStorage { storage in
            storage.state.peerUnderstandsPush()
            guard let active = storage.active, let grant = active.state.dialContext?.block.push,
                grant.maximumSources > 0
            else { return }
            active.state.pushes = .sending(PushSender(grant: grant))
        }
    }

    /// What the dialer has proved to this node, or to the router that forwarded the DIAL. Call it before
    /// ``takeDial()``, which removes the router's statement.
    package var callerIdentity: LinkIdentity {
        let peer = link.identity
        guard remoteAddress.host != link.peer?.host else { return peer }
        // Only a router that the access rules name, and that removes what its clients claim, is believed.
        guard let rules = peer.rules else { return .unknown }
        let isBelieved = peer.mayRelay && link.peer?.has(.identity) ?? false
        let text = isBelieved ? withStorage { $0.active?.state.dialContext?.block.identity } : nil
        guard let text else { return LinkIdentity(PeerCredentials(), rules) }
        return LinkIdentity(RelayedIdentity.credentials(in: text), rules)
    }

    /// Returns the block of the peer's DIAL, and the deadline of the request; `nil` after the first call.
    package func takeDial() -> (block: DialBlock, deadline: ContinuousClock.Instant?)? {
        withStorage { storage in
            guard let active = storage.active, let context = active.state.dialContext else { return nil }
            active.state.dialContext = nil
            return (context.block, context.deadline)
        }
    }

    /// The result of ``pushSource()``.
    package enum Push: Sendable {
        case opened(MeshStream)
        /// The number of unaccepted sources has reached the client's grant, or the link is at its stream limit. The
        /// delegate of the master stream is called when a source is accepted or a stream slot is free.
        case grantExhausted
        /// The client does not accept pushed sources.
        case notGranted
        /// The request has ended, or this node gave up all sources that the grant allows before the client took one.
        case ended
    }

    /// Maximum number of bytes that a pushed source may send before the client accepts it; `nil` if the client accepts
    /// no pushed sources.
    public var pushWindow: Int? {
        withStorage { storage in
            guard case .sending(let sender) = storage.active?.state.pushes else { return nil }
            return Int(sender.grant.window)
        }
    }

    /// Opens the stream of a pushed source of this request. Only one thread at a time may push sources of one request.
    package func pushSource() -> Push {
        let index: UInt32
        let grant: DialBlock.Push
        switch withStorage({ $0.beginPush() }) {
        case .failure(let reason):
            return reason.push
        case .success(let begun): (grant, index) = begun
        }
        guard link.reserveStreamSlot(orCall: self) else {
            withStorage { $0.cancelPush() }
            return .grantExhausted
        }
        let stream = MeshStream(
            state: .pushing(window: grant.window), localPort: link.node.directory.takePort(), remote: remoteAddress,
            link: link)
        stream.withStorage { storage in
            storage.activate().state.pushes = .offered(
                by: self, as: DialBlock.Source(nonce: grant.nonce, streamPort: localPort, index: index))
        }
        do throws(AstraNetError) {
            try link.open(stream)
        } catch {
            link.releaseStreamSlot()
            return .ended
        }
        return .opened(stream)
    }

    /// Settles a pushed source of this request.
    ///
    /// - Parameter isAnswered: whether the client accepted or gave up the source, so that another one may be pushed.
    ///   `false` if this node gave it up: then the client still counts it.
    /// - Returns: whether the caller must queue a wake of this stream.
    func settlePush(isAnswered: Bool) -> Bool {
        withStorage { storage -> Bool in
            storage.settlePush(isAnswered: isAnswered)
            return storage.active?.state.delegate != nil && storage.queueWake()
        }
    }

    /// Consistent snapshot of ``isPeerClosed``, ``isUnaccepted`` and whether the client has accepted this pushed
    /// source.
    package var pushProgress: (isPeerClosed: Bool, isUnaccepted: Bool, wasAccepted: Bool) {
        withStorage { storage in
            (
                storage.state.isPeerClosed && !storage.state.isClosedHere, storage.state.offer == .made,
                storage.state.wasAccepted
            )
        }
    }

    /// Whether the client has not accepted this pushed source yet.
    public var isUnaccepted: Bool { withStorage { $0.state.offer == .made } }
}
