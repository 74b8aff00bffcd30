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
        let fullName = core.configuration.fullName(name)
        // Offers that are out of the question for this dial, and the last reason.
        var failed: Set<Address> = []
        var failure: AstraNetError?
        var full: Set<ServiceRegistry.LinkID> = []
        while true {
            guard let (link, offer, isOnly) = try core.pickOffer(of: fullName, bucket: bucket, except: failed) else {
                // Refused by all who offer it; where the offers are gone meanwhile, the next one is waited for.
                if let failure, core.hasOffer(of: fullName) { throw failure }
                do {
                    try await core.waitForOffer(of: fullName, from: peer?.way, deadline: deadline)
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
            let isEager = link.can(.eager, with: offer.address.host)
            let stream = Stream(
                state: .dialer(isEager: isEager), localPort: core.takePort(), remote: offer.address, link: link)
            // A node that says nothing is not waited for to the end where there is another one. But what was said to it
            // already may have been heard, and must not be said twice.
            let isSaid = isEager && first.readableBytes > 0
            let now = core.surroundings.now()
            let patience = now + min(core.configuration.answerTimeout, (deadline - now) / 2)
            do {
                try stream.queueFirst(first)
                try link.open(stream)
                try await stream.opened(deadline: isOnly || isSaid ? deadline : min(deadline, patience))
                core.forgive(offer.address)
                return stream
            } catch {
                stream.close()
                if let error = error as? AstraNetError, error.code == .deadlineExceeded { core.penalize(offer.address) }
                guard let error = error as? AstraNetError, core.surroundings.now() < deadline else { throw error }
                switch error.code {
                case .refused: break
                case .linkLost, .deadlineExceeded:
                    if isSaid { throw error }
                default: throw error
                }
                failure = error
                // A lost link takes its offers along, so the next round finds another one or waits. An offer behind a router that
                // has lost its host may still be there for a moment.
                if error.code == .linkLost, link.isClosed { continue }
                core.penalize(offer.address)
                failed.insert(offer.address)
            }
        }
    }
}
