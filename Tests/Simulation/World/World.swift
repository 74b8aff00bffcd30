import AstraNet
import Logging
import NIOCore
import NIOEmbedded

/// The environment of one run: a virtual clock, one event loop for all nodes, a seeded random source and the first
/// broken rule.
///
/// `@unchecked Sendable`, as all parts of a world: its event loop runs everything on one thread, including tasks
/// (``LoopExecutor``).
final class World: @unchecked Sendable {
    let seed: UInt64
    let loop = EmbeddedEventLoop()
    let executor: LoopExecutor
    var random: SeededRandom
    let trace: Trace
    /// The first broken rule. It ends the run.
    private(set) var violation: String?
    /// Number of tasks that wait for the clock.
    var waits = 0
    /// The host ids of the adversary, in a guarded seed.
    var hostiles = Hostiles()
    /// A hash of all sent ops. Two runs of one seed have the same digest.
    var digest: UInt64 = 0xCBF2_9CE4_8422_2325

    private static let start = ContinuousClock.now

    init(seed: UInt64, isTraced: Bool) {
        self.seed = seed
        executor = LoopExecutor(loop: loop)
        random = SeededRandom(seed, 1)
        trace = Trace(isOn: isTraced)
    }

    // MARK: - Time

    /// Virtual time in nanoseconds since the start of the world.
    var now: UInt64 { loop.now.uptimeNanoseconds }

    /// The virtual time as an instant, as the nodes use it for deadlines.
    var instant: ContinuousClock.Instant { instant(at: now) }

    func instant(at nanoseconds: UInt64) -> ContinuousClock.Instant {
        Self.start + .nanoseconds(Int64(nanoseconds))
    }

    func after(_ nanoseconds: UInt64, _ body: @escaping () -> Void) {
        loop.scheduleTask(in: .nanoseconds(Int64(nanoseconds)), body)
    }

    /// Advances the virtual time until `end` or the first broken rule.
    func run(until end: UInt64) {
        while now < end, violation == nil { advance(until: end) }
    }

    private func advance(until end: UInt64) {
        loop.advanceTime(to: .uptimeNanoseconds(min(end, now + 10 * Self.millisecond)))
    }

    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    /// Waits. Cancellation does not shorten the wait.
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

    // MARK: - Observations

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
    func surroundings(_ host: Int, incarnation: Int, network: SimulatedNetwork) -> NodeDependencies {
        let generator = NodeRandom(SeededRandom(seed, 2, UInt64(host), UInt64(incarnation)))
        return NodeDependencies(
            now: { self.instant }, random: { generator.next() }, network: network, executor: executor)
    }

    /// Ends the world, also after a broken rule. Advances the time while tasks wait for the clock; otherwise they would
    /// never be freed.
    func end() {
        let end = now + 60 * Self.second
        while waits > 0, now < end { advance(until: end) }
        loop.shutdownGracefully(queue: .global()) { _ in }
    }
}

/// `@unchecked Sendable`: used only on the thread of the world.
private final class NodeRandom: @unchecked Sendable {
    private var random: SeededRandom
    init(_ random: SeededRandom) { self.random = random }
    func next() -> UInt64 { random.next() }
}
