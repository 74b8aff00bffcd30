package import NIOCore

/// The dependencies of a node: clock, random numbers, connections and task executor.
///
/// The simulation replaces them, so no other code of this library reads a clock or generates random numbers.
package struct NodeDependencies: Sendable {
    /// Returns the current time on the clock of all deadlines. Event loops have their own clock, which must run at the
    /// same speed.
    package var now: @Sendable () -> ContinuousClock.Instant
    /// Returns a random number.
    package var random: @Sendable () -> UInt64
    /// Network that resolves names and opens connections.
    package var network: any LinkNetwork
    /// Executor for tasks that dependent libraries start; `nil` for Swift's global concurrent executor.
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

    /// The production dependencies: the system's clock and random numbers, and TCP.
    package static let real = NodeDependencies(
        now: { .now }, random: { BufferedRandom.next() }, network: SocketNetwork())

    /// Converts `instant` to the clock of `eventLoop`.
    func deadline(_ instant: ContinuousClock.Instant, on eventLoop: any EventLoop) -> NIODeadline {
        eventLoop.deadline(in: now().duration(to: instant))
    }
}

extension EventLoop {
    /// Returns the time `duration` from now.
    func deadline(in duration: Duration) -> NIODeadline {
        let (seconds, attoseconds) = duration.components
        // Durations are limited to a century, so that their nanoseconds do not overflow an Int64.
        let bounded = max(min(seconds, 3_155_760_000), -1)
        return now + .nanoseconds(bounded * 1_000_000_000 + (bounded == seconds ? attoseconds / 1_000_000_000 : 0))
    }
}

/// A network that provides ordered byte connections to other nodes.
package protocol LinkNetwork: Sendable {
    /// Resolves a host name to at least one address.
    ///
    /// - Throws: ``AstraNetError`` with code `unreachable`.
    func addresses(of host: String, port: Int, on eventLoop: any EventLoop) -> EventLoopFuture<[SocketAddress]>

    /// Opens a connection.
    ///
    /// - Parameter initializer: a closure that adds the handlers of a link to the channel before the first read.
    func connect(
        to address: SocketAddress, timeout: TimeAmount, on eventLoop: any EventLoop,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel>

    /// Accepts connections at an address.
    ///
    /// - Parameter initializer: a closure that adds the handlers of a link to an accepted channel before the first
    ///   read.
    /// - Returns: the listening channel.
    func listen(
        at address: SocketAddress, on group: any EventLoopGroup,
        initializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> EventLoopFuture<any Channel>
}
