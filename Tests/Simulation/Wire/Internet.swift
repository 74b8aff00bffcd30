import AstraNet
import NIOCore
import NIOEmbedded

/// All hosts' addresses, who listens, who can reach whom, and every connection.
///
/// `@unchecked Sendable`: see ``World``.
final class Internet: @unchecked Sendable {
    /// Who accepts at an address.
    struct Acceptor {
        var host: Int
        var isOurs: Bool
        /// Puts an endpoint on side 1, and sets it going.
        var accept: (Connection) -> Void
    }

    let world: World
    private var acceptors: [String: Acceptor] = [:]
    private(set) var connections: [Connection] = []
    private var connectionCount = 0
    private var books: [Pair: StreamBook] = [:]
    /// Names with the hosts they mean.
    var names: [String: [Int]] = [:]
    /// Pairs whose first cannot connect to the second, by firewalls for example.
    var blocked: Set<Pair> = []
    /// Hosts that nobody can connect to nor connect from for now.
    var isolated: Set<Int> = []
    /// The same profile for each connection; drawn where it is `nil`.
    var profile: ConnectionProfile?

    struct Pair: Hashable {
        var from: Int
        var to: Int
    }

    static let port = 10_000
    let hostCount: Int

    init(world: World, hostCount: Int) {
        self.world = world
        self.hostCount = hostCount
    }

    static func ip(of host: Int) -> String { "10.\(host / 62_500).\(host / 250 % 250).\(host % 250 + 1)" }

    static func address(of host: Int) -> SocketAddress {
        do {
            return try SocketAddress(ipAddress: ip(of: host), port: port)
        } catch {
            preconditionFailure("it is an address: \(error)")
        }
    }

    func listen(at address: SocketAddress, _ acceptor: Acceptor) {
        acceptors[Self.key(address)] = acceptor
    }

    func stopListening(at address: SocketAddress) {
        acceptors[Self.key(address)] = nil
    }

    private static func key(_ address: SocketAddress) -> String {
        "\(address.ipAddress ?? ""):\(address.port ?? 0)"
    }

    /// Connects, some time from now.
    ///
    /// - Parameter answer: gets the connection, whose side 1 has been set going; side 0 is to be attached.
    func connect(
        from host: Int, isOurs: Bool, to address: SocketAddress, timeout: UInt64,
        isStillThere: @escaping () -> Bool, answer: @escaping (Result<Connection, any Error>) -> Void
    ) {
        connectionCount += 1
        let id = connectionCount
        var random = SeededRandom(world.seed, 3, UInt64(host), UInt64(address.port ?? 0), UInt64(id))
        let profiles = profile.map { [$0, $0] } ?? [.drawn(&random), .drawn(&random)]
        let delay = profiles[0].latency + profiles[1].latency
        let hangs = random.chance(30)
        world.after(delay) {
            let acceptor = self.acceptors[Self.key(address)]
            guard let acceptor, self.canReach(host, acceptor.host), isStillThere() else {
                // A firewall may drop what it blocks.
                self.world.after(hangs && timeout > delay ? timeout - delay : 0) {
                    answer(.failure(AstraNetError(.unreachable, "connection refused")))
                }
                return
            }
            let connection = Connection(
                id: id, hosts: [host, acceptor.host], world: self.world, profiles: profiles, random: random,
                areOurs: [isOurs, acceptor.isOurs], book: self.book(host, acceptor.host))
            self.connections.append(connection)
            self.world.note("link \(id): n\(host) connects to n\(acceptor.host)")
            acceptor.accept(connection)
            answer(.success(connection))
        }
    }

    private func book(_ one: Int, _ other: Int) -> StreamBook {
        let pair = Pair(from: min(one, other), to: max(one, other))
        if let book = books[pair] { return book }
        let book = StreamBook()
        books[pair] = book
        return book
    }

    func canReach(_ from: Int, _ to: Int) -> Bool {
        from == to
            || !(isolated.contains(from) || isolated.contains(to) || blocked.contains(Pair(from: from, to: to)))
    }

    /// Forgets what is gone.
    func tidy() {
        connections.removeAll { !$0.isOpen && !$0.isCutUnheard }
    }

    /// The connections of `host` that are there.
    func connections(of host: Int) -> [Connection] {
        connections.filter { $0.isOpen && $0.hosts.contains(host) }
    }
}
