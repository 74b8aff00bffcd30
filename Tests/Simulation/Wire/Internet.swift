import AstraNet
import NIOCore
import NIOEmbedded

/// The simulated network: addresses, listeners, reachability and all connections.
///
/// `@unchecked Sendable`: see ``World``.
final class Internet: @unchecked Sendable {
    /// A listener at an address.
    struct Acceptor {
        var host: Int
        var isOurs: Bool
        /// Attaches an endpoint to side 1 and starts it.
        var accept: (Connection) -> Void
    }

    let world: World
    private var acceptors: [String: Acceptor] = [:]
    private(set) var connections: [Connection] = []
    private var connectionCount = 0
    private var books: [Pair: StreamBook] = [:]
    /// DNS names and their hosts.
    var names: [String: [Int]] = [:]
    /// Pairs of which the first cannot connect to the second, as behind a firewall.
    var blocked: Set<Pair> = []
    /// Hosts that can neither make nor accept connections at present.
    var isolated: Set<Int> = []
    /// The profile of all connections; `nil` draws one for each direction of each connection.
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
            preconditionFailure("not an IP address: \(error)")
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

    /// Connects after the latency of both directions.
    ///
    /// - Parameter answer: receives the connection. Side 1 is started; the caller must attach side 0.
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
                // A firewall may drop packets, so that the connect times out.
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

    /// One of the streams that were dialled last between two random hosts, with its dialer first.
    func recentStream(_ random: inout SeededRandom) -> (from: Address, to: Address)? {
        let pairs = books.keys.sorted { ($0.from, $0.to) < ($1.from, $1.to) }.filter {
            books[$0]?.recent.isEmpty == false
        }
        guard !pairs.isEmpty, let book = books[random.pick(pairs)] else { return nil }
        return random.pick(book.recent)
    }

    func canReach(_ from: Int, _ to: Int) -> Bool {
        from == to
            || !(isolated.contains(from) || isolated.contains(to) || blocked.contains(Pair(from: from, to: to)))
    }

    /// Forgets closed connections.
    func tidy() {
        connections.removeAll { !$0.isOpen && !$0.isCutUndetected }
    }

    /// The open connections of `host`.
    func connections(of host: Int) -> [Connection] {
        connections.filter { $0.isOpen && $0.hosts.contains(host) }
    }
}
