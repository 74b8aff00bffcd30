public import NIOCore

extension Node {
    /// Opens a stream to some node that offers a service, waiting for an offer where there is none yet.
    ///
    /// An offer that refuses or does not answer is tried last for half a minute, and the dial goes on with the next one. So it
    /// does where the link to an offer has as many streams as it may have.
    ///
    /// - Parameters:
    ///   - name: the service's name without the environment.
    ///   - bucket: the same bucket goes to the same offer for as long as the set of offers stays the same; `nil` picks at
    ///     random.
    ///   - peer: the stream on which the name was learnt; where nobody offers it and the way to that stream's other end is
    ///     gone, nothing is waited for. `nil`, the default, for a name of one's own.
    ///   - first: what to say first. It goes out with the dial where both ends are nodes of this library with a link between
    ///     them, and as soon as the stream is open elsewhere. Empty by default.
    ///   - deadline: when to give up.
    /// - Throws: ``AstraNetError`` with code `noOffer`, `refused`, `linkLost`, `deadlineExceeded`, `limitReached` or
    ///   `closed`; `CancellationError`.
    public func dial(
        _ name: String, bucket: String? = nil, learntFrom peer: Stream? = nil, sending first: ByteBuffer = ByteBuffer(),
        deadline: ContinuousClock.Instant
    ) async throws -> Stream {
        try await dial(name, DialRequest(bucket: bucket, peer: peer, first: first), deadline: deadline)
    }

    /// As ``dial(_:bucket:learntFrom:sending:deadline:)``, with what a request says beyond that.
    package nonisolated(nonsending) func dial(
        _ name: String, _ request: DialRequest, deadline: ContinuousClock.Instant
    ) async throws -> Stream {
        try request.validate()
        let fullName = core.configuration.fullName(name)
        // Offers that are out of the question for this dial, and the last reason.
        var failed: Set<Address> = []
        var failure: AstraNetError?
        var full: Set<ServiceRegistry.LinkID> = []
        while true {
            guard
                let (link, offer, isOnly) = try core.pickOffer(of: fullName, bucket: request.bucket, except: failed)
            else {
                // Refused by all hosts that offer it; if the offers are gone meanwhile, it waits for the next one.
                if let failure, core.hasOffer(of: fullName) { throw failure }
                do {
                    try await core.waitForOffer(of: fullName, from: request.peer?.way, deadline: deadline)
                } catch let error as AstraNetError where error.code == .deadlineExceeded {
                    throw AstraNetError(.noOffer, error.message)
                }
                continue
            }
            guard !full.contains(link.id), link.takeStreamPlace() else {
                full.insert(link.id)
                failure = AstraNetError(
                    .limitReached,
                    "the link over which \(offer.address.host) is reached has the most streams that it may have, "
                        + "\(core.configuration.maximumStreamsPerLink)")
                failed.insert(offer.address)
                continue
            }
            let (stream, isEager, hasCookie) = core.makeDialer(of: offer, over: link, request, deadline: deadline)
            // Bytes that were sent to a node may have been received, and must not be sent twice.
            let isSent = isEager && request.first.readableBytes > 0
            do {
                try stream.queueFirst(request.first)
                do throws(AstraNetError) {
                    try link.open(stream)
                } catch {
                    link.giveStreamPlace()
                    throw error
                }
                try await stream.waitUntilOpen(deadline: core.answerDeadline(isOnly || isSent, deadline))
                core.forgive(offer.address)
                return stream
            } catch {
                stream.close()
                if let error = error as? AstraNetError, error.code == .deadlineExceeded { core.penalize(offer.address) }
                guard let error = error as? AstraNetError, core.isAhead(deadline) else { throw error }
                switch error.code {
                case .refused:
                    if error.message == PushCookies.wrongCookie, hasCookie {
                        // The server was started again, and has heard nothing of the request. The link has forgotten the cookie.
                        continue
                    }
                case .linkLost, .deadlineExceeded:
                    if isSent { throw error }
                default: throw error
                }
                failure = error
                // A lost link takes its offers along, so the next round finds another one or waits. An offer behind a router
                // that has lost its host may still be there for a moment.
                if error.code == .linkLost, link.isClosed { continue }
                core.penalize(offer.address)
                failed.insert(offer.address)
            }
        }
    }

    /// Dials `name` if some node offers it now, without waiting for the answer: the caller learns of it from the stream.
    ///
    /// - Returns: the stream, `nil` if no node offers the name.
    /// - Throws: ``AstraNetError`` with code `limitReached`, `linkLost` or `closed`.
    package func dialNow(_ name: String, _ request: DialRequest, delegate: (any StreamDelegate)?) throws(AstraNetError)
        -> Stream?
    {
        try request.validate()
        guard
            let (link, offer, _) = try core.pickOffer(
                of: core.configuration.fullName(name), bucket: request.bucket, except: [])
        else { return nil }
        guard link.takeStreamPlace() else {
            throw AstraNetError(.limitReached, "the link has the most streams that it may have")
        }
        let (stream, _, _) = core.makeDialer(of: offer, over: link, request, deadline: nil)
        if let delegate { stream.setDelegate(delegate) }
        try stream.queueFirst(request.first)
        do throws(AstraNetError) {
            try link.open(stream)
        } catch {
            link.giveStreamPlace()
            throw error
        }
        return stream
    }
}

/// What a dial says beyond the name.
package struct DialRequest: Sendable {
    /// The same bucket goes to the same offer for as long as the set of offers stays the same; `nil` picks at random.
    package var bucket: String?
    /// The stream on which the name was learnt; `nil` for a name of one's own.
    package var peer: Stream?
    /// Bytes that go out with the dial, or as soon as the stream is open.
    package var first: ByteBuffer
    /// Tags and trace parent of the request.
    package var context: DialBlock
    /// The deadline of the request, of which the server is told how much is left; `nil` for none.
    package var deadline: ContinuousClock.Instant?
    /// How many sources the server may push that are not accepted yet; 0 for none.
    package var maximumPushedSources: Int

    package init(
        bucket: String? = nil, peer: Stream? = nil, first: ByteBuffer = ByteBuffer(), context: DialBlock = DialBlock(),
        deadline: ContinuousClock.Instant? = nil, maximumPushedSources: Int = 0
    ) {
        self.bucket = bucket
        self.peer = peer
        self.first = first
        self.context = context
        self.deadline = deadline
        self.maximumPushedSources = maximumPushedSources
    }

    /// Checks that the block of the DIAL fits, with all that may be added to the context.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached`.
    fileprivate func validate() throws(AstraNetError) {
        guard !context.isEmpty else { return }
        var block = context
        if maximumPushedSources > 0 {
            block.push = DialBlock.Push(nonce: 0, maximumSources: 0, window: 0)
            block.cookie = 0
        }
        if deadline != nil { block.deadlineMilliseconds = 0 }
        try block.validate()
    }
}

extension NodeCore {
    /// Bytes that a pushed source may send before it is accepted: 16 KiB.
    fileprivate static let pushWindow = 16_384

    /// Returns the deadline for the answer of one node to a dial.
    ///
    /// It is earlier than the dial's own deadline if other nodes are left to try.
    ///
    /// Not inlined, as ``Link/deadline(_:)``.
    @inline(never)
    fileprivate func answerDeadline(_ isLast: Bool, _ deadline: ContinuousClock.Instant) -> ContinuousClock.Instant {
        guard !isLast else { return deadline }
        let now = surroundings.now()
        return min(deadline, now + min(configuration.answerTimeout, (deadline - now) / 2))
    }

    @inline(never)
    fileprivate func isAhead(_ deadline: ContinuousClock.Instant) -> Bool { surroundings.now() < deadline }

    /// Makes the stream of a dial. It takes the stream place that the caller holds.
    ///
    /// - Returns: the stream, whether its first bytes go out with the DIAL, and whether that says a cookie.
    fileprivate func makeDialer(
        of offer: ServiceOffer, over link: Link, _ request: DialRequest, deadline: ContinuousClock.Instant?
    ) -> (Stream, isEager: Bool, hasCookie: Bool) {
        let host = offer.address.host
        let understandsBlock = offer.isRelayed || link.can(.push, with: host)
        let cookie = offer.isRelayed && request.maximumPushedSources > 0 ? cookies.cookie(of: host) : nil
        let isEager = cookie != nil || link.can(.eager, with: host)
        let stream = Stream(
            state: .dialer(isEager: isEager), localPort: takePort(), remote: offer.address, link: link)
        guard understandsBlock else { return (stream, isEager, false) }
        if request.maximumPushedSources > 0, let (sources, reserved) = link.reservePushes(request.maximumPushedSources)
        {
            let grant = DialBlock.Push(
                nonce: surroundings.random(), maximumSources: UInt16(sources), window: UInt32(Self.pushWindow))
            stream.grantPush(grant, reserved: reserved)
        }
        var context = request.context
        context.cookie = cookie
        if let end = request.deadline {
            let left = surroundings.now().duration(to: end) / .milliseconds(1)
            context.deadlineMilliseconds = UInt32(max(0, min(left, Double(UInt32.max))))
        }
        if !context.isEmpty { stream.setContext(context) }
        return (stream, isEager, cookie != nil)
    }
}

extension Link {
    /// Reserves what unaccepted sources of one request may hold. The fewer bytes are left, the fewer sources it grants.
    ///
    /// - Returns: how many sources, and the bytes reserved; `nil` if nothing is left.
    fileprivate func reservePushes(_ wanted: Int) -> (sources: Int, reserved: Int)? {
        let window = NodeCore.pushWindow
        let left = node.configuration.maximumBufferedPerLink / 4 - pushGrants.held
        let sources = min(wanted, max(1, left / 64 / window), Int(UInt16.max))
        let reserved = sources * window
        return pushGrants.take(reserved) ? (sources, reserved) : nil
    }
}
