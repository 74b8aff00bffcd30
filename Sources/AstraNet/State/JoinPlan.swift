package import NIOCore

/// State machine of joining: when to look names up and when to connect to addresses (`docs/protocol.md` §3). It covers
/// the names that the node joins, and the addresses of hosts behind routers.
///
/// It has no clock or random source: times are nanoseconds of one clock, jitter is a parameter, and actions come out.
package struct JoinPlan {
    package typealias LinkID = ServiceRegistry.LinkID

    /// An address to join, whose name may lead to several hosts.
    package struct Target: Hashable, Sendable {
        var address: NodeAddress

        package init(_ address: NodeAddress) {
            self.address = address
        }
    }

    /// The reason for joining an address.
    private enum Reason: Hashable {
        case target(Target)
        /// The host has announced the address.
        case follow(HostID)
    }

    private enum Phase: Hashable {
        case waiting(until: UInt64)
        case connecting
        case linked(LinkID)
        /// Another link leads to the host at this address.
        case covered(HostID)
    }

    private struct AddressState {
        var phase: Phase
        var backoff = JoinBackoff()
        var reasons: Set<Reason>

        /// Whether the only reason for the address is that hosts behind routers announced it.
        var isFollowed: Bool {
            reasons.allSatisfy {
                guard case .follow = $0 else { return false }
                return true
            }
        }

        /// The hosts that announced the address, one of which must answer; empty if any host may answer.
        var expected: Set<HostID> {
            var hosts: Set<HostID> = []
            for reason in reasons {
                guard case .follow(let host) = reason else { return [] }
                hosts.insert(host)
            }
            return hosts
        }
    }

    private struct LookUp {
        var nextAt: UInt64
        /// The number of callers that join this name.
        var holders = 1
        var isRunning = false
        var addresses: Set<SocketAddress> = []
        /// Secures the connections; `nil` for none.
        var security: (any LinkSecurity)?
        var backoff = JoinBackoff()
    }

    /// An address that a host behind a router announced.
    private struct Followed {
        var link: LinkID
        /// Secures the connection; `nil` for none.
        var security: (any LinkSecurity)?
    }

    /// The time between two look-ups of a name: 10 s, in nanoseconds.
    private static let lookUpInterval: UInt64 = 10_000_000_000
    /// The maximum number of addresses of hosts behind routers. Further ones are ignored. A link gets no more while its
    /// share is at least the number of free places, so that no link can keep the addresses of others out.
    private static let followLimit = 4_096
    /// The maximum number of addresses of one host.
    private static let followsPerHost = 8
    /// The maximum number of simultaneous connection attempts to addresses of hosts behind routers. The addresses of
    /// one link get no more while their share is at least the number of free places.
    private static let maximumFollowAttempts = 16

    private var targets: [Target: LookUp] = [:]
    private var addressStates: [SocketAddress: AddressState] = [:]
    /// The addresses that hosts behind routers announced, with the link of each announcement.
    private var followedBy: [HostID: [SocketAddress: Followed]] = [:]
    private var followCount = 0
    private var followCounts: [LinkID: Int] = [:]

    package init() {}

    package enum Action: Hashable {
        case lookUp(Target)
        /// - Parameter expecting: the hosts of which one must answer; empty if any host may answer.
        case connect(SocketAddress, expecting: Set<HostID>)
        /// Closes a link that has no reason any more.
        case close(LinkID)
    }

    // MARK: - Targets

    /// Starts to join `target`.
    ///
    /// - Parameter security: secures the connections; `nil`, the default, for none. Of several callers with the same
    ///   target, the last one counts.
    package mutating func add(_ target: Target, security: (any LinkSecurity)? = nil, now: UInt64) {
        if targets[target] == nil {
            targets[target] = LookUp(nextAt: now)
        } else {
            targets[target]?.holders += 1
        }
        targets[target]?.security = security
    }

    /// Returns what secures the connections to an address; `nil` for none. A configured address keeps its security when
    /// a host announces it.
    package func security(of address: SocketAddress) -> (any LinkSecurity)? {
        let reasons = addressStates[address]?.reasons ?? []
        var configured: (any LinkSecurity)?
        var isConfigured = false
        var followed: (any LinkSecurity)?
        for reason in reasons {
            switch reason {
            case .target(let target):
                isConfigured = true
                configured = targets[target]?.security ?? configured
            case .follow(let host): followed = followedBy[host]?[address]?.security ?? followed
            }
        }
        return isConfigured ? configured : followed
    }

    /// Stops joining `target` if no other caller joins it. Must be called once for each ``add(_:now:)``.
    package mutating func remove(_ target: Target) -> [Action] {
        targets[target]?.holders -= 1
        guard targets[target]?.holders == 0, let lookUp = targets.removeValue(forKey: target) else { return [] }
        return lookUp.addresses.compactMap { dropReason(.target(target), from: $0) }
    }

    /// Adds an address that `host`, which is behind a router, has announced over `link`.
    package mutating func follow(
        _ host: HostID, at address: SocketAddress, security: (any LinkSecurity)? = nil, over link: LinkID, now: UInt64
    ) {
        let known = followedBy[host] ?? [:]
        guard known[address] == nil, known.count < Self.followsPerHost,
            followCounts[link] ?? 0 < Self.followLimit - followCount
        else { return }
        followedBy[host, default: [:]][address] = Followed(link: link, security: security)
        followCount += 1
        followCounts[link, default: 0] += 1
        addReason(.follow(host), to: address, now: now)
    }

    /// Drops the addresses of `host`, because no router offers it any more.
    package mutating func unfollow(_ host: HostID) -> [Action] {
        guard let addresses = followedBy.removeValue(forKey: host) else { return [] }
        followCount -= addresses.count
        for link in addresses.values.map(\.link) {
            if let count = followCounts[link] { followCounts[link] = count > 1 ? count - 1 : nil }
        }
        return addresses.keys.compactMap { dropReason(.follow(host), from: $0) }
    }

    private mutating func addReason(_ reason: Reason, to address: SocketAddress, now: UInt64) {
        addressStates[address, default: AddressState(phase: .waiting(until: now), reasons: [])].reasons.insert(reason)
    }

    /// - Returns: the action that closes the link of the address if the address has no reason left.
    private mutating func dropReason(_ reason: Reason, from address: SocketAddress) -> Action? {
        guard addressStates[address] != nil else { return nil }
        addressStates[address]?.reasons.remove(reason)
        guard addressStates[address]?.reasons.isEmpty == true else { return nil }
        let phase = addressStates.removeValue(forKey: address)?.phase
        // A link to a host behind a router stays. It is as good as any other link.
        if case .linked(let link)? = phase, case .target = reason { return .close(link) }
        return nil
    }

    // MARK: - Events

    /// Handles the result of a look-up of `target`: the addresses, or `nil` if it failed.
    package mutating func lookedUp(_ target: Target, _ addresses: [SocketAddress]?, now: UInt64, jitter: Double) {
        guard var lookUp = targets[target] else { return }
        lookUp.isRunning = false
        guard let addresses else {
            lookUp.nextAt = now + lookUp.backoff.failed(jitter: jitter).nanoseconds
            targets[target] = lookUp
            return
        }
        lookUp.backoff.succeeded()
        lookUp.nextAt = now + Self.lookUpInterval
        let found = Set(addresses)
        for address in found.subtracting(lookUp.addresses) { addReason(.target(target), to: address, now: now) }
        for address in lookUp.addresses.subtracting(found) {
            // An established link stays, even if the name has changed its addresses.
            if case .linked = addressStates[address]?.phase {
                lookUp.addresses.insert(address)
            } else {
                _ = dropReason(.target(target), from: address)
                lookUp.addresses.remove(address)
            }
        }
        lookUp.addresses.formUnion(found)
        targets[target] = lookUp
    }

    /// Handles an established link.
    ///
    /// - Parameter coveredBy: the host of the link if another link leads there already.
    /// - Returns: whether the link is still needed.
    package mutating func connected(_ address: SocketAddress, _ link: LinkID, coveredBy host: HostID?) -> Bool {
        guard addressStates[address] != nil else { return false }
        addressStates[address]?.backoff.succeeded()
        addressStates[address]?.phase = host.map { .covered($0) } ?? .linked(link)
        return true
    }

    /// Handles a failed connection attempt.
    ///
    /// - Returns: the time before the next attempt.
    @discardableResult
    package mutating func failed(_ address: SocketAddress, now: UInt64, jitter: Double) -> Duration {
        guard addressStates[address] != nil else { return .zero }
        let pause = addressStates[address]?.backoff.failed(jitter: jitter) ?? .zero
        addressStates[address]?.phase = .waiting(until: now + pause.nanoseconds)
        return pause
    }

    /// Handles the loss of a link.
    ///
    /// - Returns: the address of the link and the time before the next attempt; `nil` if the link was not joined.
    package mutating func linkDown(_ link: LinkID, now: UInt64, jitter: Double) -> (SocketAddress, Duration)? {
        guard let address = addressStates.first(where: { $0.value.phase == .linked(link) })?.key else { return nil }
        return (address, failed(address, now: now, jitter: jitter))
    }

    /// The least age of a link after which GOAWAY causes an immediate attempt: 1 s, in nanoseconds. A peer that sends
    /// GOAWAY on each new link is joined with pauses.
    private static let settledAge: UInt64 = 1_000_000_000

    /// Handles GOAWAY on a link: another process accepts links at its address. All addresses that lead to the host are
    /// joined again, and the plan forgets the link, which ends when it has no streams.
    ///
    /// Addresses that only a host behind a router announced are not joined: the new process is another host.
    ///
    /// - Parameters:
    ///   - host: the host at the other end of the link.
    ///   - age: the time since the link was dialled, in nanoseconds.
    /// - Returns: whether an address is joined again.
    package mutating func goesAway(
        _ link: LinkID, to host: HostID, age: UInt64, now: UInt64, jitter: Double
    ) -> Bool {
        let left = addressStates.filter { _, state in
            (state.phase == .linked(link) || state.phase == .covered(host)) && !state.isFollowed
        }
        for address in left.keys {
            if age >= Self.settledAge {
                addressStates[address]?.phase = .waiting(until: now)
            } else {
                failed(address, now: now, jitter: jitter)
            }
        }
        return !left.isEmpty
    }

    /// Handles the loss of the last link to `host`.
    package mutating func hostLost(_ host: HostID, now: UInt64) {
        for (address, state) in addressStates where state.phase == .covered(host) {
            addressStates[address]?.phase = .waiting(until: now)
        }
    }

    // MARK: - Actions

    /// Returns the actions that are due now.
    package mutating func tick(now: UInt64, isLinked: (HostID) -> Bool) -> [Action] {
        var actions: [Action] = []
        for (target, lookUp) in targets where !lookUp.isRunning && lookUp.nextAt <= now {
            targets[target]?.isRunning = true
            actions.append(.lookUp(target))
        }
        var following = 0
        var followingByLink: [LinkID: Int] = [:]
        for (address, state) in addressStates where state.phase == .connecting && state.isFollowed {
            following += 1
            if let link = link(announcing: address, state) { followingByLink[link, default: 0] += 1 }
        }
        for (address, state) in addressStates {
            guard case .waiting(let until) = state.phase, until <= now else { continue }
            let expected = state.expected
            if !expected.isEmpty {
                if let host = expected.first(where: isLinked) {
                    addressStates[address]?.phase = .covered(host)
                    continue
                }
                guard let link = link(announcing: address, state),
                    followingByLink[link] ?? 0 < Self.maximumFollowAttempts - following
                else { continue }
                following += 1
                followingByLink[link, default: 0] += 1
            }
            addressStates[address]?.phase = .connecting
            actions.append(.connect(address, expecting: expected))
        }
        return actions
    }

    /// Returns the link over which a host behind a router has announced the address.
    private func link(announcing address: SocketAddress, _ state: AddressState) -> LinkID? {
        state.expected.lazy.compactMap { followedBy[$0]?[address]?.link }.first
    }

    /// Whether the plan has nothing to do, now or later.
    package var isIdle: Bool { targets.isEmpty && addressStates.isEmpty }
}
