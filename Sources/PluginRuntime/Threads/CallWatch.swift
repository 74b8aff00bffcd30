internal import Glibc
internal import NIOConcurrencyHelpers

/// Expected duration of a plugin function.
enum CallKind: Sendable {
    /// Returns at once.
    case prompt
    /// Returns at once and runs as urgent work.
    case urgent
    /// create and destroy. They may take longer, but a reload or the end of an instance waits for them.
    case lifecycle
}

/// Detection of plugin functions that do not return. A function that returns is timed afterwards; a function that hangs
/// would stay unnoticed.
///
/// Each thread that calls a plugin has a record of its current call. One task checks all records every second.
enum CallWatch {
    private struct Running {
        let context: PluginContext
        let function: StaticString
        let kind: CallKind
        let start: UInt64
        var isReported = false
    }

    private final class Record: Sendable {
        let running = NIOLockedValueBox<Running?>(nil)
    }

    private static let records = NIOLockedValueBox<[ObjectIdentifier: Record]>([:])

    /// Key of this thread's record. The record is removed when the thread ends.
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let result = pthread_key_create(&key) { pointer in
            guard let pointer else { return }
            let record = Unmanaged<Record>.fromOpaque(pointer).takeRetainedValue()
            CallWatch.records.withLockedValue { $0[ObjectIdentifier(record)] = nil }
        }
        precondition(result == 0, "no thread-specific key: \(systemMessage(result))")
        return key
    }()

    /// Task that checks the records for the lifetime of the process.
    private static let watcher = Task.detached {
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(1)) } catch { return }
            report(now: monotonicNanoseconds())
        }
    }

    /// Runs `body` and watches its duration.
    ///
    /// - Returns: the result, the duration in nanoseconds, and whether the call was reported while it ran.
    static func watching<Result>(
        _ context: PluginContext, _ function: StaticString, _ kind: CallKind, _ body: () -> Result
    ) -> (result: Result, duration: UInt64, wasReported: Bool) {
        let record = self.record
        let start = monotonicNanoseconds()
        record.running.withLockedValue {
            $0 = Running(context: context, function: function, kind: kind, start: start)
        }
        let result = body()
        let wasReported = record.running.withLockedValue { $0.take()?.isReported ?? false }
        return (result, monotonicNanoseconds() &- start, wasReported)
    }

    /// Reports each call whose budget is exceeded at `now`, once per call. Reports calls beyond `killAfter` each time.
    private static func report(now: UInt64) {
        let all = records.withLockedValue { Array($0.values) }
        for record in all {
            let overdue: Running? = record.running.withLockedValue { running in
                // A call that began after `now` was read is not overdue, and its duration would be negative.
                guard let call = running, !call.isReported, call.start < now,
                    now - call.start > call.context.budget(of: call.kind)
                else { return nil }
                running?.isReported = true
                return call
            }
            guard let overdue else { continue }
            overdue.context.reportStuck(overdue.function, overdue.kind, after: now &- overdue.start)
        }
        for record in all {
            guard let call = record.running.withLockedValue({ $0 }), let limit = call.context.killAfter,
                call.kind != .lifecycle, call.start < now, now - call.start > limit
            else { continue }
            call.context.exceededKillTimeout(call.function, after: now &- call.start)
        }
    }

    private static var record: Record {
        if let pointer = pthread_getspecific(key) {
            return Unmanaged<Record>.fromOpaque(pointer).takeUnretainedValue()
        }
        let record = Record()
        records.withLockedValue { $0[ObjectIdentifier(record)] = record }
        pthread_setspecific(key, Unmanaged.passRetained(record).toOpaque())
        _ = watcher
        return record
    }
}
