import NIOCore

/// One source: announced under a name, then sent to the client that fetches it.
final class SourceServing: Sendable {
    let name: String
    private let producer: any FrameProducer
    private let listener: any ConnectionListener
    private let service: Service
    private let recipe: Recipe
    private let outcome: RequestOutcome
    private let id: ServiceWork.ID

    init(
        _ producer: any FrameProducer, _ name: String, _ listener: any ConnectionListener, _ service: Service,
        _ recipe: Recipe, _ outcome: RequestOutcome
    ) {
        self.producer = producer
        self.name = name
        self.listener = listener
        self.service = service
        self.recipe = recipe
        self.outcome = outcome
        id = service.work.add(.announced, generation: recipe.generation)
        outcome.announced(id)
    }

    private var configuration: Server.Configuration { recipe.configuration }

    /// Begins to wait for the client.
    func start() {
        service.work.wait(id, on: service.multiplexer.executor) { await self.awaitClient() }
    }

    /// The client does not know the name and will not come.
    func giveUp() {
        service.work.cancelAnnounced(id)
    }

    // MARK: Announced

    private func awaitClient() async {
        let announcedAt = ContinuousClock.now
        let timeout = configuration.chanAcceptTimeout
        while true {
            let deadline = outcome.acceptDeadline(announcedAt: announcedAt, timeout: timeout)
            do {
                let connection = try await listener.accept(deadline: deadline)
                return accepted(connection)
            } catch let error as ConnectionError where error.code == .deadlineExceeded {
                // Another source may have been fetched meanwhile, which gives this one more time.
                if outcome.acceptDeadline(announcedAt: announcedAt, timeout: timeout) > deadline { continue }
                let what = "chan accept timeout: nobody fetched the source in \(timeout)"
                configuration.onChanError(ChanservError(.deadlineExceeded, what, cause: error))
            } catch is CancellationError {
                // The client gave the request up, or the owner stopped the service.
            } catch {
                configuration.onChanError(ChanservError(error, while: "waiting for a source to be fetched"))
            }
            listener.close()
            outcome.noLongerWaiting(id, fetched: false)
            return ended(.neutral)
        }
    }

    private func accepted(_ connection: any Connection) {
        listener.close()
        service.work.accepted(id)
        outcome.noLongerWaiting(id, fetched: true)
        // A new task: the one that waited may have been cancelled because others will not be fetched any more.
        service.work.run(id, on: configuration.executor) { await self.serve(connection) }
    }

    // MARK: Being sent

    private func serve(_ connection: any Connection) async {
        connection.onPeerClosed { self.service.work.cancel(self.id, .clientGone) }
        let expire = { @Sendable in
            self.service.work.cancel(self.id, .deadline("serving timeout"))
            connection.abort("\(ChanservError.Code.deadlineExceeded): serving timeout")
        }
        do {
            try await watching(configuration.servingTimeout, expire) { try await send(to: connection) }
            connection.close()
            ended(.well)
        } catch {
            ended(failed(error, connection))
        }
    }

    private func send(to connection: any Connection) async throws {
        var batch = FrameBatch(compression: configuration.compression, target: configuration.batchSize)
        var provenWell = false
        var more = true
        while more {
            let failure: SourceFuncError?
            do {
                more = try await producer.produce(into: &batch)
                failure = nil
            } catch {
                failure = SourceFuncError(error)
            }
            if batch.isEmpty {
                if failure == nil, more { await Task.yield() }
            } else {
                service.work.countSent(frames: batch.count, bytes: batch.byteCount)
                if failure == nil, !provenWell { provenWell = outcome.hasFrames() }
                try await connection.write(batch.take(), deadline: configuration.frameWriteTimeout.deadline)
            }
            if let failure { throw failure }
            if more { try Task.checkCancellation() }
        }
        // A producer that ends early because it was cancelled has not ended well.
        try Task.checkCancellation()
    }

    private func failed(_ thrown: any Error, _ connection: any Connection) -> RequestOutcome.End {
        let error: ChanservError
        let counts: Bool
        switch (service.work.reason(id), thrown) {
        case (.clientGone, _):
            connection.close()
            return .neutral
        case (.stopped(let why), _):
            connection.fail(why ?? "the server stopped serving the source")
            return .neutral
        case (.deadline(let what), _):
            error = ChanservError(.deadlineExceeded, what, cause: thrown)
            counts = false
        case (nil, let thrown as SourceFuncError):
            error = ChanservError(.sourceFailed, "\(thrown.cause)", cause: thrown.cause)
            counts = thrown.counts
        case (nil, _):
            error = ChanservError(thrown, while: "sending frames")
            counts = !((thrown as? ConnectionError)?.isPeersDoing ?? true)
        }
        if error.code == .deadlineExceeded {
            connection.abort(error.description)
        } else {
            connection.fail(error.code == .sourceFailed ? error.message : error.description)
        }
        configuration.onChanError(error)
        return counts ? .failed(error) : .neutral
    }

    /// Exactly once, at the end of either stage.
    private func ended(_ end: RequestOutcome.End) {
        producer.close()
        // Before it counts as ended: who waits for that finds its result counted.
        outcome.ended(end)
        service.work.ended(id)
    }
}
