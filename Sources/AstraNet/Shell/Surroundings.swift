package import NIOCore

/// The environment of a node: clock, random source, network and task executor. The simulation replaces it, so no other
/// code of this library reads a clock or draws a random number.
package struct Surroundings: Sendable {
    /// Returns the current time, on the clock of all deadlines. Event loops have their own clocks, which must run at
    /// the same speed.
    package var now: @Sendable () -> ContinuousClock.Instant
    /// Returns a random number.
    package var random: @Sendable () -> UInt64
    /// Looks names up and makes connections.
    package var network: any LinkNetwork
    /// The executor for tasks that libraries on top of this one start; `nil` for Swift's global pool.
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

    /// The real environment: the system's clock, random source and TCP.
    package static let real = Surroundings(
        now: { .now }, random: { BufferedRandom.next() }, network: SocketNetwork())

    /// Converts `instant` to the clock of `eventLoop`.
    func deadline(_ instant: ContinuousClock.Instant, on eventLoop: any EventLoop) -> NIODeadline {
        eventLoop.deadline(in: now().duration(to: instant))
    }
}

extension EventLoop {
    /// Returns the time at `duration` from now.
    func deadline(in duration: Duration) -> NIODeadline {
        let (seconds, attoseconds) = duration.components
        // A century is practically for ever, and far below the range of nanoseconds in an Int64.
        let bounded = max(min(seconds, 3_155_760_000), -1)
        return now + .nanoseconds(bounded * 1_000_000_000 + (bounded == seconds ? attoseconds / 1_000_000_000 : 0))
    }
}

/// A network that makes ordered byte connections to other nodes.
package protocol LinkNetwork: Sendable {
    /// Looks a name up. Returns at least one address.
    ///
    /// - Throws: ``AstraNetError`` with code `unreachable`.
    func addresses(of host: String, port: Int, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]>

    /// Opens a connection.
    ///
    /// - Parameter initializer: makes a link of the channel before the channel reads anything.
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
