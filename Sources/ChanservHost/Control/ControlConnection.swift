internal import AstraNet
package import Glibc
internal import HostConfiguration
internal import Logging
internal import NIOCore
internal import PluginRuntime

/// One connection to the control socket. Answers the client's requests one after the other.
struct ControlConnection: Sendable {
    private let child: ControlServer.Child
    private let host: PluginHost
    private let logger: Logger
    private let place: ControlServer.Place
    private let limits: ControlLimits

    init(
        _ child: ControlServer.Child, _ host: PluginHost, _ logger: Logger, _ place: ControlServer.Place,
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
                    // The host cancelled the connection because it stops.
                    if Task.isCancelled { throw CancellationError() }
                } catch let error as ControlError {
                    try await refuse(error, &lines)
                } catch is CancellationError {
                    try await send(StatusAnswer.error(ControlError(.stopping, "the host is stopping")))
                }
            }
        } catch {
            // The client is gone, or did not read its answer in time.
            logger.debug("control socket: connection ended: \(SocketNetwork.reason(error))")
        }
    }

    /// Checks the user of the client and the number of connections.
    ///
    /// - Throws: ``ControlError`` if the client must be rejected.
    private func admit() async throws {
        let peer = try await PeerCredentials.of(child.channel)
        guard peer.mayCommand(hostOf: geteuid()) else {
            logger.warning("control socket: rejected process \(peer.pid) of user \(peer.uid)")
            throw ControlError(.forbidden, "only root and the user of the host may use the control socket")
        }
        if case .told = place { throw ControlError(.busy, "too many connections") }
    }

    /// Sends the final error and reads what the client still sends. If the host closed at once, a client that is still
    /// writing might never read the error.
    private func refuse(
        _ error: ControlError, _ lines: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    ) async throws {
        try await send(StatusAnswer.error(error))
        let channel = child.channel
        try await channel.close(mode: .output).get()
        let timer = channel.eventLoop.scheduleTask(in: TimeAmount(limits.lingerTime)) { channel.close(promise: nil) }
        defer { timer.cancel() }
        while try await lines.next() != nil {}
    }

    private func next(
        _ lines: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    ) async throws -> ByteBuffer? {
        let channel = child.channel
        let timeoutAnswer = ControlAnswer<Nothing, Nothing>.error(
            ControlError(.timeout, "no request came within \(ValueGrammar.text(limits.readTime))"))
        let timer = channel.eventLoop.scheduleTask(in: TimeAmount(limits.readTime)) {
            // The connection closes at once; if the client does not read now, the line is lost.
            channel.writeAndFlush(ByteBuffer(bytes: ControlJSON.line(timeoutAnswer)), promise: nil)
            channel.close(promise: nil)
        }
        defer { timer.cancel() }
        return try await lines.next()
    }

    // MARK: Commands

    private func answer(_ request: ControlRequest) async throws {
        do {
            switch request {
            case .status(nil):
                try await send(StatusAnswer.result(await host.status))
            case .status(let interval?):
                try await repeating(every: interval) { StatusAnswer.progress(await host.status) }
            case .requests(let vAddr, nil):
                try await send(RequestsAnswer.result(try await host.routes.openRequests(of: vAddr)))
            case .requests(let vAddr, let interval?):
                // If a reload removes the route, the watch goes on with an empty list.
                _ = try await host.routes.openRequests(of: vAddr)
                try await repeating(every: interval) {
                    do throws(RouteError) {
                        return RequestsAnswer.progress(try await host.routes.openRequests(of: vAddr))
                    } catch {
                        return RequestsAnswer.progress(RequestsReport(requests: [], total: 0))
                    }
                }
            case .links(nil):
                try await send(LinksAnswer.result(LinksReport(await host.links)))
            case .links(let interval?):
                try await repeating(every: interval) { LinksAnswer.progress(LinksReport(await host.links)) }
            case .cancel(let id, let reason):
                guard let vAddr = await host.routes.cancelRequest(id, reason: reason) else {
                    let error = ControlError(.unknownRequest, "there is no open request \(id)")
                    return try await send(CancelAnswer.error(error))
                }
                try await send(CancelAnswer.result(CancelReport(id: id, vaddr: vAddr)))
            case .reload(let force, let dryRun):
                let reload = Task {
                    dryRun ? await host.dryRunReload(force: force) : await host.reload(force: force)
                }
                let outcome = try await waiting(for: reload) { ReloadAnswer.progress(Nothing()) }
                try await send(ReloadAnswer.result(outcome))
            case .drain(let vAddr):
                let drain = try await host.beginDrain(vAddr)
                let outcome = try await waiting(for: drain) { DrainAnswer.progress(await progress(ofDraining: vAddr)) }
                let result: DrainReport.Result = outcome.result == .drained ? .drained : .givenUp
                try await send(
                    DrainAnswer.result(DrainReport(vaddr: vAddr, result: result, cancelled: outcome.cancelled)))
            case .enable(let vAddr):
                let changed = try await host.enable(vAddr)
                try await send(EnableAnswer.result(EnableReport(vaddr: vAddr, changed: changed)))
            case .rollback(let vAddr):
                let version = try await host.rollBack(vAddr)
                try await send(DeployAnswer.result(DeployReport(vaddr: vAddr, version: version)))
            case .promote(let vAddr):
                let version = try await host.promote(vAddr)
                try await send(DeployAnswer.result(DeployReport(vaddr: vAddr, version: version)))
            case .upgrade:
                let outcome = try await waiting(for: Task { await host.replacement.upgrade() }) {
                    UpgradeAnswer.progress(Nothing())
                }
                try await send(UpgradeAnswer.result(outcome))
            case .listeners(let version):
                try await sendListeners(version)
            case .handOver:
                let peer = try await PeerCredentials.of(child.channel)
                try await send(HandOverAnswer.result(try await host.replacement.handOver(to: peer.pid)))
            }
        } catch let error as RouteError {
            try await send(StatusAnswer.error(ControlError(error)))
        }
    }

    /// Sends the listening sockets together with the line that lists their addresses.
    private func sendListeners(_ version: Int) async throws {
        guard version == HandOver.version else {
            throw ControlError(
                .refused, "this host speaks version \(HandOver.version) of the hand-over, not \(version); restart it")
        }
        let listeners = try await host.replacement.duplicateListeners()
        defer { for listener in listeners { close(listener.descriptor) } }
        let report = ListenersReport(pid: getpid(), addresses: listeners.map(\.address.description))
        let line = ControlJSON.line(ListenersAnswer.result(report))
        // NIO cannot send descriptors. All earlier bytes of this connection are sent, so the order stays.
        guard let socket = try await child.channel.duplicateDescriptor() else {
            throw ControlError(.refused, "the connection has no descriptor")
        }
        let time = limits.writeTime
        let sent = await host.threads.run {
            defer { close(socket) }
            return DescriptorMessage.send(line, listeners.map(\.descriptor), to: socket, within: time)
        }
        guard sent else { return child.channel.close(promise: nil) }
    }

    /// Returns the open requests and sources of a route; 0 if the route does not exist any more.
    private func progress(ofDraining vAddr: String) async -> DrainReport.Progress {
        let counters = await host.routes.counters(of: vAddr)
        return DrainReport.Progress(
            requests: counters?.requestsOpen ?? 0,
            sources: (counters?.sourcesWaiting ?? 0) + (counters?.sourcesOpen ?? 0))
    }

    /// Sends a new answer after each interval.
    ///
    /// - Throws: if the client is gone, which the next line detects, or the host is stopping.
    private func repeating(every interval: Duration, _ answer: () async -> some Encodable) async throws -> Never {
        while true {
            try await send(await answer())
            try await Task.sleep(for: interval)
        }
    }

    /// Returns the value of `task` and sends progress until then. If the client goes away, the task continues.
    private func waiting<Value: Sendable>(
        for task: Task<Value, Never>, _ progress: () async -> some Encodable
    ) async throws -> Value {
        let isDone = OneTimeEvent()
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

    /// - Throws: if the client is gone, or does not read the line in time.
    private func send(_ answer: some Encodable) async throws {
        let channel = child.channel
        let timer = channel.eventLoop.scheduleTask(in: TimeAmount(limits.writeTime)) { channel.close(promise: nil) }
        defer { timer.cancel() }
        try await channel.writeAndFlush(ByteBuffer(bytes: ControlJSON.line(answer))).get()
    }
}

/// Limits for clients of the control socket.
package struct ControlLimits: Sendable {
    /// Maximum connections that are served. The same number of further ones gets the error `busy`.
    var connections = 64
    /// Time for a complete request to arrive.
    package var readTime = Duration.seconds(30)
    /// Time for the client to read each line.
    package var writeTime = Duration.seconds(10)
    /// Time for a rejected client to read the error and close.
    var lingerTime = Duration.seconds(1)
    /// Interval of the progress lines while a client waits for an answer.
    var progressTime = Duration.seconds(1)

    package init(
        connections: Int = 64, readTime: Duration = Duration.seconds(30), writeTime: Duration = Duration.seconds(10),
        lingerTime: Duration = Duration.seconds(1), progressTime: Duration = Duration.seconds(1)
    ) {
        self.connections = connections
        self.readTime = readTime
        self.writeTime = writeTime
        self.lingerTime = lingerTime
        self.progressTime = progressTime
    }
}

/// The process and the user at the other end of a Unix socket: Linux's `struct ucred`.
package struct PeerCredentials: Sendable {
    var pid: pid_t
    var uid: uid_t
    var gid: gid_t

    package init(pid: pid_t, uid: uid_t, gid: gid_t) {
        self.pid = pid
        self.uid = uid
        self.gid = gid
    }

    static func of(_ channel: any Channel) async throws -> PeerCredentials {
        guard let options = channel as? any SocketOptionProvider else {
            throw ControlError(.forbidden, "the user of the client is unknown")
        }
        return try await options.unsafeGetSocketOption(
            level: NIOBSDSocket.OptionLevel(rawValue: SOL_SOCKET), name: NIOBSDSocket.Option(rawValue: SO_PEERCRED)
        ).get()
    }

    package func mayCommand(hostOf user: uid_t) -> Bool { uid == user || uid == 0 }
}
