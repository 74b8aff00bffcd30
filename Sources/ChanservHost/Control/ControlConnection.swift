internal import Glibc
internal import Logging
internal import NIOCore

/// One client of the control socket, from its first line to its last: its requests are answered one after the other.
struct ControlConnection: Sendable {
    private let child: ControlServer.Child
    private let host: Host
    private let logger: Logger
    private let place: ControlServer.Place
    private let limits: ControlLimits

    init(
        _ child: ControlServer.Child, _ host: Host, _ logger: Logger, _ place: ControlServer.Place,
        _ limits: ControlLimits
    ) {
        self.child = child
        self.host = host
        self.logger = logger
        self.place = place
        self.limits = limits
    }

    func serve() async {
        do {
            try await child.executeThenClose { inbound in
                if case .closed = place { return }
                var lines = inbound.makeAsyncIterator()
                do {
                    try await admit()
                    while let line = try await next(&lines) {
                        let request = try ControlRequest(line: line.readableBytesView)
                        try await answer(request)
                    }
                    // An end that nobody asked for but the host.
                    if Task.isCancelled { throw CancellationError() }
                } catch let error as ControlError {
                    try await refuse(error, &lines)
                } catch is CancellationError {
                    try await send(StatusAnswer.error(ControlError(.stopping, "the host is stopping")))
                }
            }
        } catch {
            // The client is gone, or does not take what it asked for.
            logger.debug("a connection of the control socket ended: \(error)")
        }
    }

    /// - Throws: ``ControlError`` where the client may not be here.
    private func admit() async throws {
        let peer = try await PeerCredentials.of(child.channel)
        guard peer.mayCommand(hostOf: geteuid()) else {
            logger.warning("the control socket refused process \(peer.pid) of user \(peer.uid)")
            throw ControlError(.forbidden, "only the host's own user and root may command it")
        }
        if case .told = place { throw ControlError(.busy, "too many connections") }
    }

    /// Says why there will be no more answers, and lets the client say what it is about to say: one that writes to a
    /// connection that is gone may never read why.
    private func refuse(
        _ error: ControlError, _ lines: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    ) async throws {
        try await send(StatusAnswer.error(error))
        let channel = child.channel
        try await channel.close(mode: .output).get()
        let alarm = channel.eventLoop.scheduleTask(in: TimeAmount(limits.lingerTime)) { channel.close(promise: nil) }
        defer { alarm.cancel() }
        while try await lines.next() != nil {}
    }

    private func next(
        _ lines: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    ) async throws -> ByteBuffer? {
        let channel = child.channel
        let late = ControlAnswer<Nothing, Nothing>.error(
            ControlError(.timeout, "no request came within \(limits.readTime)"))
        let alarm = channel.eventLoop.scheduleTask(in: TimeAmount(limits.readTime)) {
            // What does not go out at once is dropped with the connection.
            channel.writeAndFlush(ByteBuffer(bytes: ControlJSON.line(late)), promise: nil)
            channel.close(promise: nil)
        }
        defer { alarm.cancel() }
        return try await lines.next()
    }

    // MARK: Commands

    private func answer(_ request: ControlRequest) async throws {
        do {
            switch request {
            case .status(nil):
                try await send(StatusAnswer.result(StatusReport(await host.status)))
            case .status(let interval?):
                try await repeating(every: interval) { StatusAnswer.progress(StatusReport(await host.status)) }
            case .requests(let vAddr, nil):
                try await send(RequestsAnswer.result(try await report(requestsOf: vAddr)))
            case .requests(let vAddr, let interval?):
                // A route that a reload removes meanwhile has no requests; that does not end the watch.
                _ = try await report(requestsOf: vAddr)
                try await repeating(every: interval) {
                    do throws(RouteError) {
                        return RequestsAnswer.progress(try await report(requestsOf: vAddr))
                    } catch {
                        return RequestsAnswer.progress(RequestsReport(requests: [], total: 0))
                    }
                }
            case .cancel(let id, let reason):
                guard let vAddr = await host.cancelRequest(id, reason: reason) else {
                    let error = ControlError(.unknownRequest, "there is no open request \(id)")
                    return try await send(CancelAnswer.error(error))
                }
                try await send(CancelAnswer.result(CancelReport(id: id, vaddr: vAddr)))
            case .reload:
                let reload = Task { await host.reload() }
                let outcome = try await waiting(for: reload) { ReloadAnswer.progress(Nothing()) }
                try await send(ReloadAnswer.result(ReloadReport(outcome)))
            case .drain(let vAddr):
                let drain = try await host.beginDrain(vAddr)
                let outcome = try await waiting(for: drain) { DrainAnswer.progress(await host.load(of: vAddr)) }
                let result: DrainReport.Result = outcome.result == .drained ? .drained : .givenUp
                try await send(
                    DrainAnswer.result(DrainReport(vaddr: vAddr, result: result, cancelled: outcome.cancelled)))
            case .enable(let vAddr):
                let changed = try await host.enable(vAddr)
                try await send(EnableAnswer.result(EnableReport(vaddr: vAddr, changed: changed)))
            }
        } catch let error as RouteError {
            try await send(StatusAnswer.error(ControlError(error)))
        }
    }

    private func report(requestsOf vAddr: String?) async throws(RouteError) -> RequestsReport {
        RequestsReport(try await host.openRequests(of: vAddr, limit: RequestsReport.longest))
    }

    /// Sends an answer again and again.
    ///
    /// - Throws: when the client is gone, which the next line that is sent notices, or the host is stopping.
    private func repeating(every interval: Duration, _ answer: () async -> some Encodable) async throws -> Never {
        while true {
            try await send(await answer())
            try await Task.sleep(for: interval)
        }
    }

    /// The value of a task, which goes on if the client does not wait for it; meanwhile the client hears of the progress.
    private func waiting<Value: Sendable>(
        for task: Task<Value, Never>, _ progress: () async -> some Encodable
    ) async throws -> Value {
        let isDone = Event()
        Task {
            _ = await task.value
            isDone.happened()
        }
        repeat {
            try await send(progress())
            try Task.checkCancellation()
        } while await !isDone.wait(until: .now + limits.progressTime)
        return await task.value
    }

    // MARK: Lines

    /// - Throws: where the client is gone, or does not take the line in time.
    private func send(_ answer: some Encodable) async throws {
        let channel = child.channel
        let alarm = channel.eventLoop.scheduleTask(in: TimeAmount(limits.writeTime)) { channel.close(promise: nil) }
        defer { alarm.cancel() }
        try await channel.writeAndFlush(ByteBuffer(bytes: ControlJSON.line(answer))).get()
    }
}

/// What clients of the control socket may make the host hold, and for how long.
struct ControlLimits: Sendable {
    /// Connections that are served at the same time; as many more are told that there are too many.
    var connections = 64
    /// For each request to come, whole.
    var readTime = Duration.seconds(30)
    /// For the client to take each line.
    var writeTime = Duration.seconds(10)
    /// For a client that was refused to hear of it and close.
    var lingerTime = Duration.seconds(1)
    /// How often a client that waits hears that the host is there.
    var progressTime = Duration.seconds(1)
}

/// Who is at the other end of a Unix socket: Linux's `struct ucred`.
struct PeerCredentials: Sendable {
    var pid: pid_t
    var uid: uid_t
    var gid: gid_t

    static func of(_ channel: any Channel) async throws -> PeerCredentials {
        guard let options = channel as? any SocketOptionProvider else {
            throw ControlError(.forbidden, "it is not known who asks")
        }
        return try await options.unsafeGetSocketOption(
            level: NIOBSDSocket.OptionLevel(rawValue: SOL_SOCKET), name: NIOBSDSocket.Option(rawValue: SO_PEERCRED)
        ).get()
    }

    func mayCommand(hostOf user: uid_t) -> Bool { uid == user || uid == 0 }
}

extension Host {
    /// What of a route has not ended; nothing where it is gone.
    fileprivate func load(of vAddr: String) -> DrainReport.Progress {
        let counters = routes.first { $0.planned.vAddr == vAddr }?.service.counters
        return DrainReport.Progress(
            requests: counters?.requestsOpen ?? 0,
            sources: (counters?.sourcesWaiting ?? 0) + (counters?.sourcesOpen ?? 0))
    }
}
