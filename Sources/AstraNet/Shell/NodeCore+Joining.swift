internal import Logging
internal import NIOConcurrencyHelpers
package import NIOCore

/// Joining: the links that this node dials, to configured targets and to hosts that it discovered through a router.
extension NodeCore {
    /// State of joining, under one lock.
    package struct Joining {
        package var plan = JoinPlan()
        var warnings = JoinWarnings()
        /// Tasks that keep a target joined. They are resumed when the node is closed.
        var joinWaiters: [UInt32: Waiter] = [:]
        var lastWaiterID: UInt32 = 0
        var ticks: RepeatedTask?
        var tickCount = 0
    }

    private static let tickInterval = TimeAmount.milliseconds(250)
    private static let connectTimeout = TimeAmount.seconds(20)
    /// Timeout for addresses from FOLLOW. It is shorter because many of these addresses cannot be reached.
    private static let followTimeout = TimeAmount.seconds(5)

    private var jitter: Double { Double(surroundings.random() >> 11) / Double(1 << 53) }

    // MARK: - Changes of the plan

    /// Keeps `target` joined until the task is cancelled or the node is closed.
    func keepJoined(_ target: JoinPlan.Target) async {
        let id = joining.withLockedValue { joining in
            joining.lastWaiterID &+= 1
            return joining.lastWaiterID
        }
        change { $0.add(target, now: now) }
        _ = await suspend(in: WaitForClose(core: self), id: id, within: deadlines, until: nil)
        perform(joining.withLockedValue { $0.plan.remove(target) })
    }

    /// The place where a task waits until the node is closed.
    private struct WaitForClose: WaitPlace {
        let core: NodeCore

        func put(_ waiter: Waiter) -> Bool {
            core.joining.withLockedValue { $0.joinWaiters[waiter.id] = waiter }
            // The node may have been closed before. Only the code that removes the waiter resumes it.
            return !core.isClosed || takeWaiter(waiter.id) == nil
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            core.joining.withLockedValue { $0.joinWaiters.removeValue(forKey: id) }
        }
    }

    /// Handles FOLLOW: `host` accepts links at the address `text`.
    func followed(_ host: HostID, to text: String, over link: Link) {
        guard let place = HostPort(text), place.port > 0, believesFollow(from: host) else { return }
        let address: SocketAddress
        do {
            address = try SocketAddress(ipAddress: place.host, port: place.port)
        } catch {
            // Go nodes send IP addresses. With a host name, a peer could choose what this node resolves.
            log.debug("FOLLOW ignored: not an IP address", metadata: ["address": "\(text)", "peer": "\(host)"])
            return
        }
        change { $0.follow(host, at: address, over: link.id, now: now) }
    }

    /// Stops joining the addresses of hosts of which no relayed offer is left.
    func unfollow(_ hosts: [HostID]) {
        guard !hosts.isEmpty else { return }
        perform(joining.withLockedValue { joining in hosts.flatMap { joining.plan.unfollow($0) } })
    }

    /// Updates the plan after a link has ended.
    ///
    /// - Parameter lost: the host at the other end if this was the last link to it; otherwise `nil`.
    func onLinkDown(_ link: Link, _ lost: HostID?) {
        let jitter = jitter
        let retry = joining.withLockedValue { joining in
            if let lost { joining.plan.hostLost(lost, now: now) }
            return joining.plan.linkDown(link.id, now: now, jitter: jitter)
        }
        guard let (address, pause) = retry, !isClosed else { return }
        log.info(
            "link to joined address closed",
            metadata: ["address": "\(address.printed)", "retry in": "\(pause.inMilliseconds)"])
    }

    /// Changes the plan. Starts the timer that performs its actions.
    private func change(_ body: (inout JoinPlan) -> Void) {
        let isFirst = joining.withLockedValue { joining in
            body(&joining.plan)
            return joining.ticks == nil
        }
        guard isFirst, !isClosed else { return }
        timers.execute {
            self.joining.withLockedValue { joining in
                guard joining.ticks == nil else { return }
                joining.ticks = self.timers.scheduleRepeatedTask(initialDelay: .zero, delay: Self.tickInterval) {
                    [weak self] task in
                    guard let self, !self.isClosed else { return task.cancel() }
                    self.tick()
                }
            }
        }
    }

    /// Stops joining because the node closes, and resumes all ``keepJoined(_:)`` tasks.
    func stopJoining() {
        let (ticks, waiters) = joining.withLockedValue { joining in
            defer {
                joining.ticks = nil
                joining.joinWaiters = [:]
            }
            return (joining.ticks, joining.joinWaiters.values)
        }
        ticks?.cancel()
        for waiter in waiters { waiter.resume() }
    }

    // MARK: - Actions of the plan

    private func tick() {
        let now = now
        let (actions, isWholeSecond) = joining.withLockedValue { joining in
            joining.tickCount += 1
            return (joining.plan.tick(now: now, isLinked: self.isLinked), joining.tickCount % 4 == 0)
        }
        perform(actions)
        if isWholeSecond { discoverAgain() }
    }

    private func perform(_ actions: [JoinPlan.Action]) {
        for action in actions {
            switch action {
            case .lookUp(let target): lookUp(target)
            case .connect(let address, let hosts): connect(to: address, expecting: hosts)
            case .close(let id):
                let link = shared.withLockedValue { $0.links.up[id] }
                link?.close(AstraNetError(.closed, "the address is not to be joined any more"))
            }
        }
    }

    private func lookUp(_ target: JoinPlan.Target) {
        surroundings.network.addresses(of: target.host, port: target.port, on: timers).whenComplete { result in
            let jitter = self.jitter
            let now = self.now
            switch result {
            case .success(let addresses):
                self.joining.withLockedValue {
                    $0.plan.lookedUp(target, addresses, now: now, jitter: jitter)
                    $0.warnings.joined(.name(HostPort(host: target.host, port: target.port).description))
                }
            case .failure(let error):
                let address = HostPort(host: target.host, port: target.port).description
                let isWarning = self.joining.withLockedValue {
                    $0.plan.lookedUp(target, nil, now: now, jitter: jitter)
                    return $0.warnings.failed(.name(address), now: now)
                }
                self.log.log(
                    level: isWarning ? .warning : .info, "join failed",
                    metadata: ["address": "\(address)", "reason": "\(SocketNetwork.reason(error))"])
            }
            if !self.isClosed { self.tick() }
        }
    }

    /// Dials an address.
    ///
    /// - Parameter hosts: the hosts of which one must answer; empty if any host may answer.
    private func connect(to address: SocketAddress, expecting hosts: Set<HostID>) {
        open(address, timeout: hosts.isEmpty ? Self.connectTimeout : Self.followTimeout).whenComplete { result in
            let failure: any Error
            switch result {
            case .success(let up):
                if hosts.isEmpty || hosts.contains(up.peer) {
                    let isWanted = self.joining.withLockedValue { joining in
                        joining.warnings.joined(.address(address.printed))
                        return joining.plan.connected(address, up.link.id, coveredBy: up.isRetired ? up.peer : nil)
                    }
                    guard isWanted else {
                        return up.link.close(AstraNetError(.closed, "the address is not to be joined any more"))
                    }
                    self.log.info("joined", metadata: ["address": "\(address.printed)", "peer": "\(up.peer)"])
                    // The link may have ended before the plan had it.
                    if up.link.isClosed { self.onLinkDown(up.link, nil) }
                    return
                }
                let other = AstraNetError(.unreachable, "another host answered: \(up.peer)")
                up.link.close(other)
                failure = other
            case .failure(let error):
                failure = error
            }
            let jitter = self.jitter
            let now = self.now
            let (pause, isWarning) = self.joining.withLockedValue { joining in
                let isOwn = failure as? AstraNetError == LinkMachine.peerIsThisNode
                return (
                    joining.plan.failed(address, now: now, jitter: jitter),
                    hosts.isEmpty && joining.warnings.failed(.address(address.printed), isOwn: isOwn, now: now)
                )
            }
            guard !self.isClosed else { return }
            self.log.log(
                level: isWarning ? .warning : hosts.isEmpty ? .info : .debug, "join failed",
                metadata: [
                    "address": "\(address.printed)", "reason": "\(SocketNetwork.reason(failure))",
                    "retry in": "\(pause.inMilliseconds)",
                ])
        }
    }

    /// Connects to an address. The future succeeds when the handshake is complete.
    ///
    /// - Parameter timeout: the timeout for the connection, and for the handshake after it.
    func open(_ address: SocketAddress, timeout: TimeAmount) -> EventLoopFuture<LinkUp> {
        let eventLoop = group.next()
        let up = eventLoop.makePromise(of: LinkUp.self)
        let connected = surroundings.network.connect(to: address, timeout: timeout, on: eventLoop) { channel in
            self.makeLink(of: channel, isDialled: true, up: up)
        }
        connected.whenComplete { result in
            switch result {
            case .failure(let error): up.fail(error)
            case .success(let channel):
                let timer = eventLoop.scheduleTask(in: timeout) {
                    up.fail(
                        HandshakeFailure.late(within: UInt64(clamping: timeout.nanoseconds), isDialled: true))
                    channel.close(promise: nil)
                }
                up.futureResult.whenComplete { _ in timer.cancel() }
            }
        }
        return up.futureResult
    }

    /// Creates a link for a new connection and adds its handler to the channel.
    package func makeLink(
        of channel: any Channel, isDialled: Bool, memory: SharedMemory? = nil, up: EventLoopPromise<LinkUp>
    ) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            let link = Link(
                id: self.takeLinkID(), node: self, channel: channel, isDialled: isDialled, memory: memory)
            do {
                try channel.pipeline.syncOperations.addHandler(LinkHandler(link: link, up: up))
            } catch {
                // The channel is already closed, and without a handler no other code fails the promise.
                up.fail(error)
                throw error
            }
        }
    }
}

extension SocketAddress {
    /// `ip:port` as Go prints it, for example `127.0.0.1:5555` or `[::1]:5555`; empty if the address has no IP address.
    var printed: String {
        guard let ipAddress, let port else { return "" }
        return HostPort(host: ipAddress, port: port).description
    }
}

extension Duration {
    /// Text for logs in milliseconds, for example `1595 ms`.
    fileprivate var inMilliseconds: String { "\(Int64((self / .milliseconds(1)).rounded())) ms" }
}
