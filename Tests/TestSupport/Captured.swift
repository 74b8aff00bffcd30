import Foundation

/// A growing byte buffer, and waits for its content.
///
/// `@unchecked Sendable`: `condition` guards all mutable state.
final class Captured: @unchecked Sendable {
    /// Maximum wait, in seconds. Only a hang reaches it.
    private static let timeout: TimeInterval = 120

    private let condition = NSCondition()
    private var bytes = Data()
    private var hasEnded = false
    private var taken = 0

    /// Appends all bytes of `handle` until its end of file, on a new thread.
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

    /// Waits for the end and returns all bytes; `nil` after the timeout.
    func whole() async -> Data? {
        await wait { self.hasEnded ? self.bytes : nil }
    }

    /// Calls `body` with the bytes so far and the read position, again after each change, until it returns a value.
    /// Returns `nil` if `body` still returns `nil` at the end of the bytes or after the timeout.
    func take<T: Sendable>(_ body: @escaping @Sendable (Data, inout Int) -> T?) async -> T? {
        await wait { body(self.bytes, &self.taken) }
    }

    private func wait<T: Sendable>(_ body: @escaping @Sendable () -> T?) async -> T? {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                let deadline = Date(timeIntervalSinceNow: Self.timeout)
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
