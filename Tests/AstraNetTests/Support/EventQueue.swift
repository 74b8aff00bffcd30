import NIOConcurrencyHelpers

/// A queue of events that tests wait for. Each element goes to one waiter.
///
/// Waits have no timeout of their own: the time limit of the suite cancels them.
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

    /// Marks the end of the queue.
    func finish() {
        let waiters = storage.withLockedValue { storage in
            storage.isFinished = true
            defer { storage.waiters = [] }
            return storage.waiters
        }
        for waiter in waiters { waiter.continuation.resume(returning: nil) }
    }

    /// Waits for the next element. Returns `nil` at the end of the queue, or if the task is cancelled.
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

    /// The elements that were not taken. Tests use it to check that an event has not happened.
    var waiting: [Element] { storage.withLockedValue { $0.elements } }
}
