internal import Glibc
internal import PluginRuntime

/// A value behind a lock, with a condition to wait for changes.
///
/// `@unchecked Sendable`: `value` is accessed only while `mutex` is held.
final class Monitor<Value>: @unchecked Sendable {
    private var value: Value
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init(_ value: Value) {
        self.value = value
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        let result = (pthread_mutex_init(mutex, nil), pthread_cond_init(changed, &attributes))
        precondition(result == (0, 0), "no mutex and condition: \(result)")
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Changes the value and wakes all waiting threads.
    func with<Result>(_ body: (inout Value) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
        }
        return body(&value)
    }

    /// Waits until `body` returns a value. Calls it at once, after each change, and once more at the deadline.
    ///
    /// - Parameter deadline: monotonic time in nanoseconds; `nil` for none.
    func wait<Result>(until deadline: UInt64? = nil, _ body: (inout Value) -> Result?) -> Result? {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(mutex)
        }
        while true {
            if let result = body(&value) { return result }
            guard let deadline else {
                pthread_cond_wait(changed, mutex)
                continue
            }
            guard monotonicNanoseconds() < deadline else { return nil }
            var time = timespec(
                tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
            pthread_cond_timedwait(changed, mutex, &time)
        }
    }
}

/// Returns the monotonic time in nanoseconds after `duration`.
func monotonicTime(in duration: Duration) -> UInt64 {
    monotonicNanoseconds() + nanoseconds(of: duration)
}

/// Returns a duration in nanoseconds; 0 if it is negative.
func nanoseconds(of duration: Duration) -> UInt64 {
    let (seconds, attoseconds) = duration.components
    return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
}
