import NIOConcurrencyHelpers

/// What happens elsewhere, in order, for tests to wait for: each element goes to one waiter.
///
/// There is no deadline here: the suites that wait have a time limit, whose cancellation ends every wait.
final class EventQueue<Element: Sendable>: Sendable {
    private struct Storage {
        var elements: [Element] = []
        var waiters: [(id: UInt64, continuation: CheckedContinuation<Element?, Never>)] = []
        var lastID: UInt64 = 0
        var isFinished = false
    }

    private let storage = NIOLockedValueBox(Storage())

    func append(_ element: Element) {
        let waiter = storage.withLockedValue { storage -> CheckedContinuation<Element?, Never>? in
            guard storage.waiters.isEmpty else { return storage.waiters.removeFirst().continuation }
            storage.elements.append(element)
            return nil
        }
        waiter?.resume(returning: element)
    }

    /// There will be no more.
    func finish() {
        let waiters = storage.withLockedValue { storage in
            storage.isFinished = true
            defer { storage.waiters = [] }
            return storage.waiters
        }
        for waiter in waiters { waiter.continuation.resume(returning: nil) }
    }

    /// The next element; `nil` at the end, or when the task is cancelled.
    func next() async -> Element? {
        let id = storage.withLockedValue { storage in
            storage.lastID += 1
            return storage.lastID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer = storage.withLockedValue { storage -> Element?? in
                    if !storage.elements.isEmpty { return .some(storage.elements.removeFirst()) }
                    if storage.isFinished || Task.isCancelled { return .some(nil) }
                    storage.waiters.append((id, continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter = storage.withLockedValue { storage -> CheckedContinuation<Element?, Never>? in
                guard let index = storage.waiters.firstIndex(where: { $0.id == id }) else { return nil }
                return storage.waiters.remove(at: index).continuation
            }
            waiter?.resume(returning: nil)
        }
    }

    /// Whether something waits to be taken; for what must not have come by now.
    var waiting: [Element] { storage.withLockedValue { $0.elements } }
}
