package import NIOCore

/// What a node takes from the world outside: time, chance, connections and the executor of tasks. The simulation brings its own, so nothing else in
/// this library reads a clock or draws a number.
package struct Surroundings: Sendable {
    /// The present, on the clock of all deadlines. Event loops have their own, which need only go equally fast.
    package var now: @Sendable () -> ContinuousClock.Instant
    /// A random number.
    package var random: @Sendable () -> UInt64
    /// Where names are looked up and connections come from.
    package var network: any LinkNetwork
    /// Runs the tasks that libraries on top of this one start; `nil` for Swift's own pool.
    package var executor: (any TaskExecutor)?

    package init(
        now: @escaping @Sendable () -> ContinuousClock.Instant, random: @escaping @Sendable () -> UInt64,
        network: any LinkNetwork, executor: (any TaskExecutor)? = nil
    ) {
        self.now = now
        self.random = random
        self.network = network
        self.executor = executor
    }

    /// The real world: the system's clock and random numbers, and TCP.
    package static let real = Surroundings(
        now: { .now }, random: { BufferedRandom.next() }, network: SocketNetwork())

    /// The moment of `instant` on the clock of `eventLoop`.
    func deadline(_ instant: ContinuousClock.Instant, on eventLoop: any EventLoop) -> NIODeadline {
        eventLoop.deadline(in: now().duration(to: instant))
    }
}

extension EventLoop {
    /// The moment `duration` from now.
    func deadline(in duration: Duration) -> NIODeadline {
        let (seconds, attoseconds) = duration.components
        // A century is for ever, and far from what nanoseconds in an Int64 can hold.
        let bounded = max(min(seconds, 3_155_760_000), -1)
        return now + .nanoseconds(bounded * 1_000_000_000 + (bounded == seconds ? attoseconds / 1_000_000_000 : 0))
    }
}

/// Where ordered byte connections to other nodes come from.
package protocol LinkNetwork: Sendable {
    /// The addresses of a name, at least one.
    ///
    /// - Throws: ``AstraNetError`` with code `unreachable`.
    func addresses(of host: String, port: Int, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]>

    /// Opens a connection.
    ///
    /// - Parameter initializer: makes a link of the channel before anything is read.
    func connect(
        to address: SocketAddress, timeout: TimeAmount, on eventLoop: any EventLoop,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel>

    /// Accepts connections at an address.
    ///
    /// - Returns: the listening channel.
    func listen(
        at address: SocketAddress, on group: any EventLoopGroup,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel>
}
