internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The links this node makes itself: to what it was told to join, and to hosts it heard of through a router.
extension NodeCore {
    /// What is shared about joining.
    struct Joining {
        var plan = JoinPlan()
        /// Who keeps what joined, to be told when the node is closed.
        var keepers: [UInt32: Waiter] = [:]
        var lastKeeper: UInt32 = 0
        var ticks: RepeatedTask?
        var tickCount = 0
    }

    private static let tickInterval = TimeAmount.milliseconds(250)
    private static let connectTimeout = TimeAmount.seconds(20)
    /// Addresses that hosts behind routers name often lead nowhere.
    private static let followTimeout = TimeAmount.seconds(5)

    private var jitter: Double { Double(surroundings.random() >> 11) / Double(1 << 53) }

    // MARK: - Wanted

    /// Joins `target` until the task is cancelled or the node is closed.
    func keepJoined(_ target: JoinPlan.Target) async {
        let id = joining.withLockedValue { joining in
            joining.lastKeeper &+= 1
            return joining.lastKeeper
        }
        change { $0.add(target, now: now) }
        // Until the node is closed or the task is cancelled.
        _ = await suspend(in: WaitForClose(core: self), id: id, within: deadlines, until: nil)
        perform(joining.withLockedValue { $0.plan.remove(target) })
    }

    /// Where a task waits for the node to be closed.
    private struct WaitForClose: WaitPlace {
        let core: NodeCore

        func put(_ waiter: Waiter) -> Bool {
            core.joining.withLockedValue { $0.keepers[waiter.id] = waiter }
            // The node may have been closed before that. Only the code that takes the waiter out resumes it.
            return !core.isClosed || takeWaiter(waiter.id) == nil
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            core.joining.withLockedValue { $0.keepers.removeValue(forKey: id) }
        }
    }

    /// FOLLOW: `host` says over `link` that it can be reached at `text`.
    func followed(_ host: HostID, to text: String, over link: Link) {
        guard let place = HostPort(text), place.port > 0, believesFollow(from: host) else { return }
        let address: SocketAddress
        do {
            address = try SocketAddress(ipAddress: place.host, port: place.port)
        } catch {
            // Go nodes name IP addresses; a name would make this node look up whatever others like.
            log.debug("FOLLOW without an IP address", metadata: ["address": "\(text)", "peer": "\(host)"])
            return
        }
        change { $0.follow(host, at: address, over: link.id, now: now) }
    }

    /// Nobody speaks of these hosts any more: where they said they can be reached is not tried again.
    func unfollow(_ hosts: [HostID]) {
        guard !hosts.isEmpty else { return }
        perform(joining.withLockedValue { joining in hosts.flatMap { joining.plan.unfollow($0) } })
    }

    /// A link is gone; `lost` is the host it led to where it was the last one.
    func onLinkDown(_ link: Link, _ lost: HostID?) {
        let jitter = jitter
        let again = joining.withLockedValue { joining in
            if let lost { joining.plan.hostLost(lost, now: now) }
            return joining.plan.linkDown(link.id, now: now, jitter: jitter)
        }
        guard let (address, pause) = again, !isClosed else { return }
        log.info(
            "not joined",
            metadata: [
                "address": "\(address.printed)", "reason": "the link was closed", "again in": "\(pause.inMilliseconds)",
            ])
    }

    /// Changes the plan, and begins to act on it.
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

    /// Nothing is joined any more.
    func stopJoining() {
        let (ticks, keepers) = joining.withLockedValue { joining in
            defer {
                joining.ticks = nil
                joining.keepers = [:]
            }
            return (joining.ticks, joining.keepers.values)
        }
        ticks?.cancel()
        for keeper in keepers { keeper.resume() }
    }

    // MARK: - Done

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
                link?.close(AstraNetError(.closed, "it is to be joined no longer"))
            }
        }
    }

    private func lookUp(_ target: JoinPlan.Target) {
        surroundings.network.addresses(of: target.host, port: target.port, on: timers).whenComplete { result in
            let jitter = self.jitter
            let now = self.now
            switch result {
            case .success(let addresses):
                self.joining.withLockedValue { $0.plan.lookedUp(target, addresses, now: now, jitter: jitter) }
            case .failure(let error):
                self.joining.withLockedValue { $0.plan.lookedUp(target, nil, now: now, jitter: jitter) }
                self.log.info(
                    "not joined",
                    metadata: [
                        "address": "\(target.host):\(target.port)", "reason": "\(SocketNetwork.reason(error))",
                    ])
            }
            if !self.isClosed { self.tick() }
        }
    }

    /// - Parameter hosts: of which one must answer; empty where anybody may.
    private func connect(to address: SocketAddress, expecting hosts: Set<HostID>) {
        open(address, timeout: hosts.isEmpty ? Self.connectTimeout : Self.followTimeout).whenComplete { result in
            let failure: any Error
            switch result {
            case .success(let up):
                if hosts.isEmpty || hosts.contains(up.peer) {
                    let isWanted = self.joining.withLockedValue { joining in
                        joining.plan.connected(address, up.link.id, coveredBy: up.isRetired ? up.peer : nil)
                    }
                    guard isWanted else {
                        return up.link.close(AstraNetError(.closed, "it is to be joined no longer"))
                    }
                    self.log.info("joined", metadata: ["address": "\(address.printed)", "peer": "\(up.peer)"])
                    // It may have gone before the plan knew of it.
                    if up.link.isClosed { self.onLinkDown(up.link, nil) }
                    return
                }
                let other = AstraNetError(.unreachable, "another host answers there: \(up.peer)")
                up.link.close(other)
                failure = other
            case .failure(let error):
                failure = error
            }
            let jitter = self.jitter
            let now = self.now
            let pause = self.joining.withLockedValue { $0.plan.failed(address, now: now, jitter: jitter) }
            guard !self.isClosed else { return }
            self.log.log(
                level: hosts.isEmpty ? .info : .debug, "not joined",
                metadata: [
                    "address": "\(address.printed)", "reason": "\(SocketNetwork.reason(failure))",
                    "again in": "\(pause.inMilliseconds)",
                ])
        }
    }

    /// Connects to an address and waits for the handshake.
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
                    up.fail(AstraNetError(.deadlineExceeded, "no handshake from \(address.printed) in time"))
                    channel.close(promise: nil)
                }
                up.futureResult.whenComplete { _ in timer.cancel() }
            }
        }
        return up.futureResult
    }

    /// Puts a link's handler into a new connection.
    func makeLink(
        of channel: any Channel, isDialled: Bool, memory: SharedMemory? = nil, up: EventLoopPromise<LinkUp>
    ) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            let link = Link(
                id: self.takeLinkID(), node: self, channel: channel, isDialled: isDialled, memory: memory)
            do {
                try channel.pipeline.syncOperations.addHandler(LinkHandler(link: link, up: up))
            } catch {
                // It is closed already, and there is no handler to say so.
                up.fail(error)
                throw error
            }
        }
    }
}

extension SocketAddress {
    /// `ip:port` as Go prints it, e.g. `127.0.0.1:5555` or `[::1]:5555`; empty where there is none.
    var printed: String {
        guard let ipAddress, let port else { return "" }
        return HostPort(host: ipAddress, port: port).description
    }
}

extension Duration {
    /// For a person, e.g. `1595 ms`.
    fileprivate var inMilliseconds: String { "\(Int64((self / .milliseconds(1)).rounded())) ms" }
}
