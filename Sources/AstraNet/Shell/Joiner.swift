internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import Synchronization

/// The targets and addresses that a node keeps joined, and the attempts to join them.
///
/// It joins configured targets, and hosts that the node discovered through a router. ``JoinPlan`` decides; the joiner
/// performs. It has its own lock. It may take the lock of ``MeshDirectory`` while it holds its own; the directory never
/// takes that of the joiner. Its timer is on ``NodeCore/timers``.
///
/// The core owns the joiner, so the joiner does not retain the core. Methods that dial get the core as a parameter.
package final class Joiner: Sendable {
    private struct State {
        var plan = JoinPlan()
        var warnings = JoinWarnings()
        /// Tasks that keep a target joined. They are resumed when the node is closed.
        var waiters: [UInt32: Waiter] = [:]
        var lastWaiterID: UInt32 = 0
        var ticks: RepeatedTask?
        var tickCount = 0
        var isStopped = false
    }

    private let state = NIOLockedValueBox(State())

    private static let tickInterval = TimeAmount.milliseconds(250)
    private static let connectTimeout = TimeAmount.seconds(20)
    /// Timeout for addresses from FOLLOW. It is shorter because many of these addresses cannot be reached.
    private static let followTimeout = TimeAmount.seconds(5)

    /// Whether nothing is to be joined.
    package var isIdle: Bool { state.withLockedValue { $0.plan.isIdle } }

    private var isStopped: Bool { state.withLockedValue { $0.isStopped } }

    // MARK: - Changes of the plan

    /// Keeps `target` joined until the task is cancelled or the node is closed.
    func keepJoined(_ target: JoinPlan.Target, security: (any LinkSecurity)?, by core: NodeCore) async {
        let id = state.withLockedValue { state in
            state.lastWaiterID &+= 1
            return state.lastWaiterID
        }
        change(for: core) { $0.add(target, security: security, now: core.now) }
        _ = await suspend(in: WaitForStop(joiner: self), id: id, within: core.deadlines, until: nil)
        perform(state.withLockedValue { $0.plan.remove(target) }, for: core)
    }

    /// The place where a task waits until the joiner is stopped.
    private struct WaitForStop: WaitPlace {
        let joiner: Joiner

        func put(_ waiter: Waiter) -> Bool {
            joiner.state.withLockedValue { state in
                guard !state.isStopped else { return false }
                state.waiters[waiter.id] = waiter
                return true
            }
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            joiner.state.withLockedValue { $0.waiters.removeValue(forKey: id) }
        }
    }

    /// Joins `host`, which accepts links at `address`.
    ///
    /// - Parameters:
    ///   - security: secures the connection; `nil` for none.
    ///   - link: the link to the router over which the host sent its address.
    func follow(_ host: HostID, to address: SocketAddress, security: (any LinkSecurity)?, over link: Link) {
        change(for: link.node) {
            $0.follow(host, at: address, security: security, over: link.id, now: link.node.now)
        }
    }

    /// Stops joining the addresses of hosts of which no relayed offer is left.
    func unfollow(_ hosts: [HostID], for core: NodeCore) {
        guard !hosts.isEmpty else { return }
        perform(state.withLockedValue { state in hosts.flatMap { state.plan.unfollow($0) } }, for: core)
    }

    /// Updates the plan after a link has ended.
    ///
    /// - Parameter lost: the host at the other end if this was the last link to it; otherwise `nil`.
    func linkDown(_ link: Link, _ lost: HostID?) {
        let core = link.node
        let jitter = core.jitter
        let retry = state.withLockedValue { state in
            if let lost { state.plan.hostLost(lost, now: core.now) }
            return state.plan.linkDown(link.id, now: core.now, jitter: jitter)
        }
        guard let (address, pause) = retry, !isStopped else { return }
        core.log.info(
            "link to joined address closed",
            metadata: ["address": "\(address.printed)", "retry in": "\(pause.inMilliseconds)"])
    }

    /// Joins the address of a link again whose peer has sent GOAWAY.
    func peerGoesAway(_ link: Link) {
        let core = link.node
        guard let host = link.peer?.host else { return }
        let (now, jitter) = (core.now, core.jitter)
        let age = now > link.began ? now - link.began : 0
        let joins = state.withLockedValue { $0.plan.goesAway(link.id, to: host, age: age, now: now, jitter: jitter) }
        guard joins else { return }
        core.log.info(
            "the peer goes away, joining its address again",
            metadata: ["address": "\(link.peerSocketAddress.withLockedValue { $0 })"])
        core.timers.execute { if !self.isStopped { self.tick(for: core) } }
    }

    /// Changes the plan. Starts the timer that performs its actions.
    private func change(for core: NodeCore, _ body: (inout JoinPlan) -> Void) {
        let isFirst = state.withLockedValue { state in
            body(&state.plan)
            return state.ticks == nil && !state.isStopped
        }
        guard isFirst else { return }
        core.timers.execute {
            self.state.withLockedValue { state in
                guard state.ticks == nil, !state.isStopped else { return }
                state.ticks = core.timers.scheduleRepeatedTask(initialDelay: .zero, delay: Self.tickInterval) {
                    [weak core] task in
                    guard let core, !self.isStopped else { return task.cancel() }
                    self.tick(for: core)
                }
            }
        }
    }

    /// Stops joining because the node closes, and resumes all ``keepJoined(_:by:)`` tasks.
    func stop() {
        let (ticks, waiters) = state.withLockedValue { state in
            state.isStopped = true
            defer {
                state.ticks = nil
                state.waiters = [:]
            }
            return (state.ticks, state.waiters.values)
        }
        ticks?.cancel()
        for waiter in waiters { waiter.resume() }
    }

    // MARK: - Actions of the plan

    private func tick(for core: NodeCore) {
        let now = core.now
        let (actions, isWholeSecond) = state.withLockedValue { state in
            state.tickCount += 1
            return (state.plan.tick(now: now, isLinked: core.directory.isLinked), state.tickCount % 4 == 0)
        }
        perform(actions, for: core)
        if isWholeSecond { core.directory.discoverAgain() }
    }

    private func perform(_ actions: [JoinPlan.Action], for core: NodeCore) {
        for action in actions {
            switch action {
            case .lookUp(let target): lookUp(target, for: core)
            case .connect(let address, let hosts): connect(to: address, expecting: hosts, for: core)
            case .close(let id): core.directory.link(id)?.close(Self.notToBeJoined)
            }
        }
    }

    private static var notToBeJoined: AstraNetError {
        AstraNetError(.closed, "the address is not to be joined any more")
    }

    private func lookUp(_ target: JoinPlan.Target, for core: NodeCore) {
        core.lookUp(target.address).whenComplete { result in
            let jitter = core.jitter
            let now = core.now
            switch result {
            case .success(let addresses):
                self.state.withLockedValue { state in
                    state.plan.lookedUp(target, addresses, now: now, jitter: jitter)
                    state.warnings.joined(.name("\(target.address)"))
                }
            case .failure(let error):
                let address = "\(target.address)"
                let isWarning = self.state.withLockedValue {
                    $0.plan.lookedUp(target, nil, now: now, jitter: jitter)
                    return $0.warnings.failed(.name(address), now: now)
                }
                core.log.log(
                    level: isWarning ? .warning : .info, "join failed",
                    metadata: ["address": "\(address)", "reason": "\(SocketNetwork.reason(error))"])
            }
            if !self.isStopped { self.tick(for: core) }
        }
    }

    /// Dials an address.
    ///
    /// - Parameter hosts: the hosts of which one must answer; empty if any host may answer.
    private func connect(to address: SocketAddress, expecting hosts: Set<HostID>, for core: NodeCore) {
        let timeout = hosts.isEmpty ? Self.connectTimeout : Self.followTimeout
        let security = state.withLockedValue { $0.plan.security(of: address) }
        core.open(address, security: security, timeout: timeout).whenComplete { result in
            let failure: any Error
            switch result {
            case .success(let up):
                if hosts.isEmpty || hosts.contains(up.peer) {
                    let isWanted = self.state.withLockedValue { state in
                        state.warnings.joined(.address(address.printed))
                        return state.plan.connected(address, up.link.id, coveredBy: up.isRetired ? up.peer : nil)
                    }
                    guard isWanted else { return up.link.close(Self.notToBeJoined) }
                    core.log.info("joined", metadata: ["address": "\(address.printed)", "peer": "\(up.peer)"])
                    // The link may have ended before the plan had it.
                    if up.link.isClosed { self.linkDown(up.link, nil) }
                    // GOAWAY may have arrived before that too.
                    if up.link.isGoingAway.load(ordering: .relaxed) { self.peerGoesAway(up.link) }
                    return
                }
                let other = AstraNetError(.unreachable, "another host answered: \(up.peer)")
                up.link.close(other)
                failure = other
            case .failure(let error):
                failure = error
            }
            let jitter = core.jitter
            let now = core.now
            let (pause, isWarning) = self.state.withLockedValue { state in
                let isOwn = failure as? AstraNetError == LinkMachine.peerIsThisNode
                return (
                    state.plan.failed(address, now: now, jitter: jitter),
                    hosts.isEmpty && state.warnings.failed(.address(address.printed), isOwn: isOwn, now: now)
                )
            }
            guard !self.isStopped else { return }
            core.log.log(
                level: isWarning ? .warning : hosts.isEmpty ? .info : .debug, "join failed",
                metadata: [
                    "address": "\(address.printed)", "reason": "\(SocketNetwork.reason(failure))",
                    "retry in": "\(pause.inMilliseconds)",
                ])
        }
    }
}

extension NodeCore {
    /// A random number from 0 to less than 1.
    fileprivate var jitter: Double { Double(surroundings.random() >> 11) / Double(1 << 53) }
}

extension Duration {
    /// Text for logs in milliseconds, for example `1595 ms`.
    fileprivate var inMilliseconds: String { "\(Int64((self / .milliseconds(1)).rounded())) ms" }
}
