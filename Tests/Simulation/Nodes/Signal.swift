import NIOCore

/// A condition on which tasks wait until it fires, a deadline passes or they are cancelled.
///
/// `@unchecked Sendable`: see ``World``.
final class Signal: @unchecked Sendable {
    struct DeadlinePassed: Error {}

    private let world: World
    private var waiters: [(id: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    private var lastID = 0

    init(_ world: World) {
        self.world = world
    }

    func fire() {
        let woken = waiters
        waiters = []
        world.waits -= woken.count
        for waiter in woken { waiter.continuation.resume() }
    }

    func wait(deadline: UInt64) async throws {
        lastID += 1
        let id = lastID
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                waiters.append((id, continuation))
                world.waits += 1
                world.after(deadline > world.now ? deadline - world.now : 0) {
                    self.take(id)?.resume(throwing: DeadlinePassed())
                }
            }
        } onCancel: {
            take(id)?.resume(throwing: CancellationError())
        }
    }

    private func take(_ id: Int) -> CheckedContinuation<Void, any Error>? {
        guard let index = waiters.firstIndex(where: { $0.id == id }) else { return nil }
        world.waits -= 1
        return waiters.remove(at: index).continuation
    }
}
