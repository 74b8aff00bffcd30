internal import NIOCore

/// When to look which name up, and when to connect to which address: for names that are to be joined for as long as the node
/// lives, and for addresses of hosts behind a router (`docs/protocol.md` §3).
///
/// Pure: times are nanoseconds of one clock, jitter comes in, and what is to be done comes out.
struct JoinPlan {
    typealias LinkID = ServiceRegistry.LinkID

    /// A name and a port to join.
    struct Target: Hashable, Sendable {
        var host: String
        var port: Int
    }

    /// On whose behalf an address is joined.
    private enum Reason: Hashable {
        case target(Target)
        /// The host that said it can be reached there.
        case follow(HostID)
    }

    private enum Phase: Hashable {
        case waiting(until: UInt64)
        case connecting
        case linked(LinkID)
        /// It leads to a host that another link leads to already.
        case covered(HostID)
    }

    private struct Place {
        var phase: Phase
        var backoff = JoinBackoff()
        var reasons: Set<Reason>

        /// Whether nobody asked for the address but hosts behind routers, which named it.
        var isFollowed: Bool {
            reasons.allSatisfy {
                guard case .follow = $0 else { return false }
                return true
            }
        }

        /// The hosts that said they can be reached there, one of which must answer; empty where anybody may.
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
        /// How many want it joined.
        var holders = 1
        var isRunning = false
        var addresses: Set<SocketAddress> = []
        var backoff = JoinBackoff()
    }

    /// A name is looked up again after this many nanoseconds.
    private static let lookUpInterval: UInt64 = 10_000_000_000
    /// How many addresses of hosts behind routers are kept in mind; the newest is ignored beyond it, and beyond what one link has
    /// left to others: who names addresses without end keeps nobody else's out.
    private static let followLimit = 4_096
    /// How many addresses one host may name.
    private static let followsPerHost = 8
    /// How many connections may be on their way to addresses that hosts behind routers named, and likewise of one link as many as
    /// it leaves to others.
    private static let followsAtOnce = 16

    private var targets: [Target: LookUp] = [:]
    private var places: [SocketAddress: Place] = [:]
    /// What hosts behind routers named, and over which link each was heard.
    private var followedBy: [HostID: [SocketAddress: LinkID]] = [:]
    private var followCount = 0
    private var followCounts: [LinkID: Int] = [:]

    enum Action: Hashable {
        case lookUp(Target)
        /// - Parameter expecting: the hosts of which one must answer; empty where anybody may.
        case connect(SocketAddress, expecting: Set<HostID>)
        /// Nobody wants the link any more.
        case close(LinkID)
    }

    // MARK: - What is wanted

    /// Joins `target` from now on.
    mutating func add(_ target: Target, now: UInt64) {
        if targets[target] == nil {
            targets[target] = LookUp(nextAt: now)
        } else {
            targets[target]?.holders += 1
        }
    }

    /// Joins `target` no longer, where nobody else wants it: to be called once for each ``add(_:now:)``.
    mutating func remove(_ target: Target) -> [Action] {
        targets[target]?.holders -= 1
        guard targets[target]?.holders == 0, let lookUp = targets.removeValue(forKey: target) else { return [] }
        return lookUp.addresses.compactMap { dropReason(.target(target), from: $0) }
    }

    /// `host`, which is behind a router, can be reached at `address`, as was heard over `link`.
    mutating func follow(_ host: HostID, at address: SocketAddress, over link: LinkID, now: UInt64) {
        let known = followedBy[host] ?? [:]
        guard known[address] == nil, known.count < Self.followsPerHost,
            followCounts[link] ?? 0 < Self.followLimit - followCount
        else { return }
        followedBy[host, default: [:]][address] = link
        followCount += 1
        followCounts[link, default: 0] += 1
        addReason(.follow(host), to: address, now: now)
    }

    /// `host` needs no direct link any more, because nobody speaks of it.
    mutating func unfollow(_ host: HostID) -> [Action] {
        guard let addresses = followedBy.removeValue(forKey: host) else { return [] }
        followCount -= addresses.count
        for link in addresses.values {
            if let count = followCounts[link] { followCounts[link] = count > 1 ? count - 1 : nil }
        }
        return addresses.keys.compactMap { dropReason(.follow(host), from: $0) }
    }

    private mutating func addReason(_ reason: Reason, to address: SocketAddress, now: UInt64) {
        places[address, default: Place(phase: .waiting(until: now), reasons: [])].reasons.insert(reason)
    }

    /// - Returns: the closing of its link, where nobody wants the address any more.
    private mutating func dropReason(_ reason: Reason, from address: SocketAddress) -> Action? {
        guard places[address] != nil else { return nil }
        places[address]?.reasons.remove(reason)
        guard places[address]?.reasons.isEmpty == true else { return nil }
        let phase = places.removeValue(forKey: address)?.phase
        // A link to somebody behind a router is kept: it is as good as any.
        if case .linked(let link)? = phase, case .target = reason { return .close(link) }
        return nil
    }

    // MARK: - What happened

    /// The look-up of `target` brought `addresses`, `nil` where it failed.
    mutating func lookedUp(_ target: Target, _ addresses: [SocketAddress]?, now: UInt64, jitter: Double) {
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
            // A link that is up is good for as long as it lasts, whatever the name means by now.
            if case .linked = places[address]?.phase {
                lookUp.addresses.insert(address)
            } else {
                _ = dropReason(.target(target), from: address)
                lookUp.addresses.remove(address)
            }
        }
        lookUp.addresses.formUnion(found)
        targets[target] = lookUp
    }

    /// A connection is up, or leads where there is a link already.
    ///
    /// - Parameter coveredBy: the host it leads to, where another link leads there.
    /// - Returns: whether the link is still wanted.
    mutating func connected(_ address: SocketAddress, _ link: LinkID, coveredBy host: HostID?) -> Bool {
        guard places[address] != nil else { return false }
        places[address]?.backoff.succeeded()
        places[address]?.phase = host.map { .covered($0) } ?? .linked(link)
        return true
    }

    /// A connection did not come about.
    ///
    /// - Returns: how long to wait before the next attempt.
    @discardableResult
    mutating func failed(_ address: SocketAddress, now: UInt64, jitter: Double) -> Duration {
        guard places[address] != nil else { return .zero }
        let pause = places[address]?.backoff.failed(jitter: jitter) ?? .zero
        places[address]?.phase = .waiting(until: now + pause.nanoseconds)
        return pause
    }

    /// A link is gone.
    ///
    /// - Returns: the address it led to, where it was joined, and how long to wait before the next attempt.
    mutating func linkDown(_ link: LinkID, now: UInt64, jitter: Double) -> (SocketAddress, Duration)? {
        guard let address = places.first(where: { $0.value.phase == .linked(link) })?.key else { return nil }
        return (address, failed(address, now: now, jitter: jitter))
    }

    /// The last link to `host` is gone.
    mutating func hostLost(_ host: HostID, now: UInt64) {
        for (address, place) in places where place.phase == .covered(host) {
            places[address]?.phase = .waiting(until: now)
        }
    }

    // MARK: - What to do

    /// What is due now.
    mutating func tick(now: UInt64, isLinked: (HostID) -> Bool) -> [Action] {
        var actions: [Action] = []
        for (target, lookUp) in targets where !lookUp.isRunning && lookUp.nextAt <= now {
            targets[target]?.isRunning = true
            actions.append(.lookUp(target))
        }
        var following = 0
        var followingByLink: [LinkID: Int] = [:]
        for (address, place) in places where place.phase == .connecting && place.isFollowed {
            following += 1
            if let link = link(thatNamed: address, place) { followingByLink[link, default: 0] += 1 }
        }
        for (address, place) in places {
            guard case .waiting(let until) = place.phase, until <= now else { continue }
            let expected = place.expected
            if !expected.isEmpty {
                if let host = expected.first(where: isLinked) {
                    places[address]?.phase = .covered(host)
                    continue
                }
                guard let link = link(thatNamed: address, place),
                    followingByLink[link] ?? 0 < Self.followsAtOnce - following
                else { continue }
                following += 1
                followingByLink[link, default: 0] += 1
            }
            places[address]?.phase = .connecting
            actions.append(.connect(address, expecting: expected))
        }
        return actions
    }

    /// A link over which an address was heard that nobody but hosts behind routers asked for.
    private func link(thatNamed address: SocketAddress, _ place: Place) -> LinkID? {
        place.expected.lazy.compactMap { followedBy[$0]?[address] }.first
    }

    /// Whether anything will be due sooner or later.
    var isIdle: Bool { targets.isEmpty && places.isEmpty }
}
