public import NIOCore

extension Node {
    /// Opens a stream to a node that offers a service. Waits for an offer if there is none yet.
    ///
    /// If an offer refuses the dial or does not answer, the node tries the next one, and prefers other offers for half
    /// a minute. It also tries the next one if the link to an offer has its maximum number of streams.
    ///
    /// - Parameters:
    ///   - name: the name of the service, without the environment suffix.
    ///   - bucket: selects the offer. The same bucket selects the same offer as long as the set of offers stays the
    ///     same. `nil`, the default, selects one at random.
    ///   - peer: the stream on which the caller received the name. If no node offers the name and the route to the peer
    ///     of that stream is lost, the dial fails at once. `nil`, the default, if the name was not received on a
    ///     stream.
    ///   - first: the first bytes of the stream. They are sent together with the DIAL if both nodes are of this library
    ///     and have a direct link. Otherwise they are sent as soon as the stream is open. Empty by default.
    ///   - deadline: the deadline for the whole operation.
    /// - Throws: ``AstraNetError`` with code `noOffer`, `refused`, `linkLost`, `deadlineExceeded`, `limitReached` or
    ///   `closed`; `CancellationError`.
    public func dial(
        _ name: String, bucket: String? = nil, receivedFrom peer: MeshStream? = nil,
        sending first: ByteBuffer = ByteBuffer(),
        deadline: ContinuousClock.Instant
    ) async throws -> MeshStream {
        try await dial(name, DialRequest(bucket: bucket, peer: peer, first: first), deadline: deadline)
    }

    /// Dials as ``dial(_:bucket:receivedFrom:sending:deadline:)`` does, with all options of a request.
    package nonisolated(nonsending) func dial(
        _ name: String, _ request: DialRequest, deadline: ContinuousClock.Instant
    ) async throws -> MeshStream {
        try request.validate()
        let fullName = core.configuration.fullName(name)
        // Offers that this dial does not try again, and the error of the latest one.
        var failed: Set<Address> = []
        var failure: AstraNetError?
        var full: Set<ServiceRegistry.LinkID> = []
        while true {
            guard
                let (link, offer, isOnly) = try core.directory.pickOffer(
                    of: fullName, from: request.peer?.hostLink, bucket: request.bucket, except: failed)
            else {
                // All offers have failed. If they are gone in the meantime, wait for a new one.
                if let failure, core.directory.hasOffer(of: fullName, from: request.peer?.hostLink) {
                    throw failure
                }
                do {
                    try await core.directory.waitForOffer(
                        of: fullName, from: request.peer?.hostLink, deadline: deadline)
                } catch let error as AstraNetError where error.code == .deadlineExceeded {
                    throw AstraNetError(.noOffer, error.message)
                }
                continue
            }
            guard !full.contains(link.id), link.reserveStreamSlot() else {
                full.insert(link.id)
                failure = core.streamLimit(of: offer)
                failed.insert(offer.address)
                continue
            }
            let (stream, isEager, hasCookie) = core.makeDialer(of: offer, over: link, request, deadline: deadline)
            // The node may have received bytes that were sent to it. They must not be sent to another one.
            let isSent = isEager && request.first.readableBytes > 0
            // Taken before the wait, because it decides how long this offer may take to answer.
            let mayRepeat = isSent && !isOnly && request.repeats?.take() == true
            do {
                try stream.queueFirst(request.first)
                do throws(AstraNetError) {
                    try link.open(stream)
                } catch {
                    link.releaseStreamSlot()
                    throw error
                }
                if isSent {
                    try await stream.waitUntilOpen(deadline: core.answerDeadline(!mayRepeat, deadline))
                } else {
                    try await waitUntilOpen(
                        stream,
                        others: {
                            core.directory.hasOffer(
                                of: fullName, from: request.peer?.hostLink,
                                except: failed.union([offer.address]))
                        },
                        deadline: deadline)
                }
                core.directory.forgive(offer.address)
                if mayRepeat { request.repeats?.giveBack() }
                return stream
            } catch {
                stream.close()
                if let error = error as? AstraNetError, error.code == .deadlineExceeded {
                    core.directory.penalize(offer.address)
                }
                guard let error = error as? AstraNetError, core.isAhead(deadline) else { throw error }
                switch error.code {
                case .refused:
                    if mayRepeat { request.repeats?.giveBack() }
                    if error.message == PushCookies.wrongCookie, hasCookie {
                        // The server has restarted and has not processed the request. The link has already dropped the
                        // cookie.
                        continue
                    }
                case .linkLost, .deadlineExceeded:
                    if isSent && !mayRepeat { throw error }
                default: throw error
                }
                failure = error
                // A lost link removes its offers, so the next round finds another offer or waits. An offer behind a
                // router that has lost the host may stay for a moment.
                if error.code == .linkLost, link.isClosed { continue }
                core.directory.penalize(offer.address)
                failed.insert(offer.address)
            }
        }
    }

    /// Waits until a node answers a DIAL without bytes. Ends the wait early while other offers can be tried, also those
    /// that arrive during the wait. It is not inlined, so that the frame of ``dial(_:_:deadline:)`` stays small.
    @inline(never)
    private nonisolated(nonsending) func waitUntilOpen(
        _ stream: MeshStream, others: () -> Bool, deadline: ContinuousClock.Instant
    ) async throws {
        while true {
            let end = core.answerDeadline(false, deadline)
            do {
                return try await stream.waitUntilOpen(deadline: end)
            } catch let error as AstraNetError where error.code == .deadlineExceeded {
                if others() || !core.isAhead(deadline) { throw error }
            }
        }
    }

    /// Dials `name` if a node offers it now. Returns before the peer answers; the stream reports the answer.
    ///
    /// - Returns: the stream; `nil` if no node offers the name.
    /// - Throws: ``AstraNetError`` with code `limitReached`, `linkLost` or `closed`.
    package func dialNow(_ name: String, _ request: DialRequest, delegate: (any StreamDelegate)?) throws(AstraNetError)
        -> MeshStream?
    {
        try request.validate()
        guard
            let (link, offer, _) = try core.directory.pickOffer(
                of: core.configuration.fullName(name), from: request.peer?.hostLink, bucket: request.bucket,
                except: [])
        else { return nil }
        guard link.reserveStreamSlot() else {
            throw core.streamLimit(of: offer)
        }
        let (stream, _, _) = core.makeDialer(of: offer, over: link, request, deadline: nil)
        if let delegate { stream.setDelegate(delegate) }
        try stream.queueFirst(request.first)
        do throws(AstraNetError) {
            try link.open(stream)
        } catch {
            link.releaseStreamSlot()
            throw error
        }
        return stream
    }
}

extension NodeCore {
    /// The maximum number of unacknowledged bytes of a pushed source before the client accepts it: 16 KiB.
    fileprivate static let pushWindow = 16_384

    private static let minimumAnswerTime = Duration.milliseconds(50)

    /// Returns the deadline for the answer of one node.
    ///
    /// It is earlier than the deadline of the dial if the dial has other offers to try.
    ///
    /// Not inlined, for the same reason as ``Link/deadline(_:)``.
    @inline(never)
    fileprivate func answerDeadline(_ isLast: Bool, _ deadline: ContinuousClock.Instant) -> ContinuousClock.Instant {
        guard !isLast else { return deadline }
        let now = surroundings.now()
        // The minimum keeps the number of waits before the deadline small.
        return min(deadline, now + max(Self.minimumAnswerTime, min(configuration.answerTimeout, (deadline - now) / 2)))
    }

    /// Returns the error of a dial whose link has no stream slot left.
    fileprivate func streamLimit(of offer: ServiceOffer) -> AstraNetError {
        AstraNetError(
            .limitReached,
            "the link that leads to \(offer.address.host) has its maximum of \(configuration.maximumStreamsPerLink) streams"
        )
    }

    @inline(never)
    fileprivate func isAhead(_ deadline: ContinuousClock.Instant) -> Bool { surroundings.now() < deadline }

    /// Makes the stream of a dial. The caller has reserved a stream slot on the link.
    ///
    /// - Returns: the stream, whether its first bytes are sent together with the DIAL, and whether the DIAL has a
    ///   cookie.
    fileprivate func makeDialer(
        of offer: ServiceOffer, over link: Link, _ request: DialRequest, deadline: ContinuousClock.Instant?
    ) -> (MeshStream, isEager: Bool, hasCookie: Bool) {
        let host = offer.address.host
        let understandsBlock = offer.isRelayed || link.can(.push, with: host)
        let cookie = offer.isRelayed && request.maximumPushedSources > 0 ? cookies.cookie(of: host) : nil
        let isEager = cookie != nil || link.can(.eager, with: host)
        let stream = MeshStream(
            state: .dialer(isEager: isEager), localPort: directory.takePort(), remote: offer.address, link: link)
        guard understandsBlock else { return (stream, isEager, false) }
        if request.maximumPushedSources > 0, let (sources, reserved) = link.reservePushes(request.maximumPushedSources)
        {
            let grant = DialBlock.Push(
                nonce: surroundings.random(), maximumSources: UInt16(sources), window: UInt32(Self.pushWindow))
            stream.grantPush(grant, reserved: reserved)
        }
        var block = DialBlock(cookie: cookie)
        block.texts = request.texts
        if let end = request.deadline {
            let left = surroundings.now().duration(to: end) / .milliseconds(1)
            block.deadlineMilliseconds = UInt32(max(0, min(left, Double(UInt32.max))))
        }
        if !block.isEmpty { stream.setContext(block) }
        return (stream, isEager, cookie != nil)
    }
}

extension Link {
    /// Reserves memory for the unaccepted sources of one request. Grants fewer sources when less memory is left.
    ///
    /// - Returns: the number of sources and the reserved bytes; `nil` if no memory is left.
    fileprivate func reservePushes(_ wanted: Int) -> (sources: Int, reserved: Int)? {
        let window = NodeCore.pushWindow
        let left = node.configuration.maximumBufferedPerLink / 4 - pushGrants.held
        let sources = min(wanted, max(1, left / 64 / window), Int(UInt16.max))
        let reserved = sources * window
        return pushGrants.take(reserved) ? (sources, reserved) : nil
    }
}
