import NIOCore

/// One request being served: its body, the source function, the announcements.
final class RequestServing: Sendable {
    private let master: any Connection
    private let service: Service
    private let recipe: Recipe
    private let outcome: RequestOutcome
    private let id: ServiceWork.ID

    /// - Parameter id: of the request among the service's work.
    init(
        _ master: any Connection, of service: Service, _ recipe: Recipe, _ ticket: ErrorMass.Ticket,
        _ id: ServiceWork.ID
    ) {
        self.master = master
        self.service = service
        self.recipe = recipe
        outcome = RequestOutcome(service, recipe, ticket)
        self.id = id
    }

    func start() {
        service.work.run(id, on: recipe.configuration.executor) { await self.serve() }
    }

    private func serve() async {
        master.onPeerClosed {
            self.service.work.cancel(self.id, .clientGone)
            self.outcome.giveUpWaiting()
        }
        let end: RequestOutcome.End
        do {
            try await watching(recipe.configuration.servingTimeout, expire("serving timeout")) {
                try await answer()
            }
            master.close()
            end = .well
        } catch {
            end = failed(error)
        }
        // Before it counts as ended: who waits for that finds its result counted.
        outcome.ended(end)
        service.stoppedListing()
        service.work.ended(id)
    }

    /// Reads the request and announces what the source function has for it.
    private func answer() async throws {
        let request = try await readRequest()
        let sources = try await watching(recipe.configuration.sourcingTimeout, expire("sourcing timeout")) {
            do { return try await recipe.sourceFunc(request) } catch { throw SourceFuncError(error) }
        }
        try await announceAll(sources)
    }

    private func announceAll(_ sources: some AsyncSequence<Source, any Error>) async throws {
        var iterator = sources.makeAsyncIterator()
        while true {
            let source = try await watching(recipe.configuration.sourcingTimeout, expire("sourcing timeout")) {
                do { return try await iterator.next() } catch { throw SourceFuncError(error) }
            }
            guard let source else { break }
            try await announce(source)
        }
        // A function that ends early because it was cancelled has not ended well.
        if Task.isCancelled { throw SourceFuncError(CancellationError()) }
    }

    private func readRequest() async throws -> Request {
        let deadline = recipe.configuration.masterReadTimeout.deadline
        var decoder = FrameDecoder(decompresses: false)
        do {
            while true {
                if let body = try decoder.next() {
                    return Request(body: body, vAddr: service.vAddr, meta: SourceMeta(master.addresses))
                }
                guard let bytes = try await master.read(deadline: deadline) else {
                    try decoder.finish()
                    throw ChanservError(.truncatedFrame, "the client closed before it sent its request")
                }
                decoder.append(bytes)
            }
        } catch {
            throw ClientFault(ChanservError(error, while: "reading the request"))
        }
    }

    // MARK: Sources

    /// Gives a source a name and tells the client.
    private func announce(_ source: Source) async throws {
        let serving: SourceServing
        do {
            try await outcome.waitForRoom()
            let name = RandomName.uuid()
            let listener = try service.multiplexer.bind(name, visibleTo: master)
            serving = SourceServing(source.producer, name, listener, service, recipe, outcome)
        } catch {
            source.producer.close()
            throw error
        }
        serving.start()
        do {
            var announcement = FrameBatch()
            try announcement.append(uncompressed: source.header)
            try announcement.append(uncompressed: serving.name)
            let bytes = announcement.take()
            try await master.write(bytes, deadline: recipe.configuration.masterWriteTimeout.deadline)
        } catch {
            // Nobody was told, or nobody listens: nobody will come.
            serving.giveUp()
            throw error
        }
    }

    // MARK: Failures

    /// Ends the request at once for the client, however long the source function takes to notice.
    private func expire(_ what: String) -> @Sendable () -> Void {
        {
            self.service.work.cancel(self.id, .deadline(what))
            self.master.abort("\(ChanservError.Code.deadlineExceeded): \(what)")
        }
    }

    private func failed(_ thrown: any Error) -> RequestOutcome.End {
        let error: ChanservError
        let counts: Bool
        switch (service.work.reason(id), thrown) {
        case (.clientGone, _):
            master.close()
            return .neutral
        case (.stopped(let why), _):
            master.fail(why ?? "the server stopped serving the request")
            return .neutral
        case (.deadline(let what), _):
            error = ChanservError(.deadlineExceeded, what, cause: thrown)
            // Only time spent in the author's code speaks against the server.
            counts = thrown is SourceFuncError
        case (nil, let thrown as SourceFuncError):
            error = ChanservError(.sourceFailed, "\(thrown.cause)", cause: thrown.cause)
            counts = thrown.counts
        case (nil, let thrown as ClientFault):
            error = thrown.error
            counts = false
        case (nil, let thrown as ConnectionError) where thrown.isPeersDoing:
            error = ChanservError(thrown, while: "announcing a source")
            counts = false
        case (nil, _):
            error = ChanservError(thrown, while: "announcing a source")
            counts = true
        }
        if error.code == .deadlineExceeded {
            master.abort(error.description)
        } else {
            master.fail(error.code == .sourceFailed ? error.message : error.description)
        }
        recipe.configuration.onError(error)
        return counts ? .failed(error) : .neutral
    }
}

/// What the author's code threw, told apart from what the network threw.
struct SourceFuncError: Error {
    let cause: any Error

    init(_ cause: any Error) {
        self.cause = cause
    }

    /// Whether it speaks against the server.
    var counts: Bool { (cause as? any ServingError)?.countsAsFailure ?? true }
}

/// Something the client did wrong.
private struct ClientFault: Error {
    let error: ChanservError

    init(_ error: ChanservError) {
        self.error = error
    }
}

extension ConnectionError {
    /// Whether it came about at the other end, or on the way.
    var isPeersDoing: Bool {
        switch code {
        case .failedByPeer, .closedByPeer, .connectionLost, .deadlineExceeded, .protocolViolation: true
        default: false
        }
    }
}
