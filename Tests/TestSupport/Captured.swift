import Foundation

/// Bytes that are still coming, and threads that wait for some of them.
///
/// `@unchecked Sendable`: everything that changes is touched with `condition` locked.
final class Captured: @unchecked Sendable {
    /// Far beyond what anything takes, so that only a hang meets it.
    private static let patience: TimeInterval = 120

    private let condition = NSCondition()
    private var bytes = Data()
    private var hasEnded = false
    private var taken = 0

    /// Takes all that comes from `handle` until its end, on a thread of its own.
    func follow(_ handle: FileHandle) {
        Thread.detachNewThread {
            while true {
                let data = handle.availableData
                if data.isEmpty { break }
                self.append(data)
            }
            self.end()
        }
    }

    func append(_ data: Data) {
        condition.withLock {
            bytes.append(data)
            condition.broadcast()
        }
    }

    func end() {
        condition.withLock {
            hasEnded = true
            condition.broadcast()
        }
    }

    var isEnded: Bool { condition.withLock { hasEnded } }

    var soFar: Data { condition.withLock { bytes } }

    /// All bytes, once they have ended; `nil` where that takes for ever.
    func whole() async -> Data? {
        await wait { self.hasEnded ? self.bytes : nil }
    }

    /// What `body` makes of the bytes so far and of how far they were taken; asked again as long as it answers `nil`.
    /// `nil` where they have ended, or it takes for ever.
    func take<T: Sendable>(_ body: @escaping @Sendable (Data, inout Int) -> T?) async -> T? {
        await wait { body(self.bytes, &self.taken) }
    }

    private func wait<T: Sendable>(_ body: @escaping @Sendable () -> T?) async -> T? {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                let deadline = Date(timeIntervalSinceNow: Self.patience)
                let value: T? = self.condition.withLock {
                    while true {
                        if let value = body() { return value }
                        if self.hasEnded || !self.condition.wait(until: deadline) { return body() }
                    }
                }
                continuation.resume(returning: value)
            }
        }
    }
}
