import AstraNet
import Logging
import NIOCore
import NIOEmbedded

/// One run: a clock, one event loop for everybody, chance from a seed, and what has been seen to go wrong.
///
/// `@unchecked Sendable`, as are all the parts of a world: it lives on one thread, on which its event loop runs everything,
/// tasks included (``LoopExecutor``).
final class World: @unchecked Sendable {
    let seed: UInt64
    let loop = EmbeddedEventLoop()
    let executor: LoopExecutor
    var random: SeededRandom
    let trace: Trace
    /// The first broken rule; the run ends at it.
    private(set) var violation: String?
    /// Tasks that wait for the clock.
    var waits = 0
    /// All that was sent, in one number: two runs of one seed have the same.
    var digest: UInt64 = 0xCBF2_9CE4_8422_2325

    private static let start = ContinuousClock.now

    init(seed: UInt64, isTraced: Bool) {
        self.seed = seed
        executor = LoopExecutor(loop: loop)
        random = SeededRandom(seed, 1)
        trace = Trace(isOn: isTraced)
    }

    // MARK: - Time

    /// Nanoseconds since the world began.
    var now: UInt64 { loop.now.uptimeNanoseconds }

    /// The present as the nodes' deadlines have it.
    var instant: ContinuousClock.Instant { instant(at: now) }

    func instant(at nanoseconds: UInt64) -> ContinuousClock.Instant {
        Self.start + .nanoseconds(Int64(nanoseconds))
    }

    func after(_ nanoseconds: UInt64, _ body: @escaping () -> Void) {
        loop.scheduleTask(in: .nanoseconds(Int64(nanoseconds)), body)
    }

    /// Lets time pass, until `end` or a broken rule.
    func run(until end: UInt64) {
        while now < end, violation == nil { advance(until: end) }
    }

    private func advance(until end: UInt64) {
        loop.advanceTime(to: .uptimeNanoseconds(min(end, now + 10 * Self.millisecond)))
    }

    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    /// Waits; a cancelled task waits to the end all the same.
    func sleep(_ nanoseconds: UInt64) async {
        await withCheckedContinuation { continuation in
            waits += 1
            after(nanoseconds) {
                self.waits -= 1
                continuation.resume()
            }
        }
    }

    // MARK: - Tasks

    @discardableResult
    func task(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        Task(executorPreference: executor) { await body() }
    }

    // MARK: - What is seen

    func broken(_ rule: @autoclosure () -> String) {
        guard violation == nil else { return }
        violation = rule()
        trace.add(now, "BROKEN: \(violation ?? "")")
    }

    func note(_ text: @autoclosure () -> String) {
        if trace.isOn { trace.add(now, text()) }
    }

    func mix(_ value: UInt64) {
        digest = (digest ^ value) &* 0x0000_0100_0000_01B3
    }

    /// The surroundings of one incarnation of a node.
    func surroundings(_ host: Int, incarnation: Int, network: SimulatedNetwork) -> Surroundings {
        let chance = NodeChance(SeededRandom(seed, 2, UInt64(host), UInt64(incarnation)))
        return Surroundings(now: { self.instant }, random: { chance.next() }, network: network, executor: executor)
    }

    /// Ends it all, also after a broken rule: lets time pass while tasks wait for it, or they would never be freed.
    func end() {
        let end = now + 60 * Self.second
        while waits > 0, now < end { advance(until: end) }
        loop.shutdownGracefully(queue: .global()) { _ in }
    }
}

/// `@unchecked Sendable`: used on the world's thread alone.
private final class NodeChance: @unchecked Sendable {
    private var random: SeededRandom
    init(_ random: SeededRandom) { self.random = random }
    func next() -> UInt64 { random.next() }
}
