import DequeModule

/// A task executor that runs its jobs on the main thread, one after the other, when the caller asks for it. So `async`
/// code executes the same instructions in each run.
///
/// `@unchecked Sendable`: this program starts no thread, so all jobs come from the main thread and run there.
final class OneThread: TaskExecutor, @unchecked Sendable {
    private var jobs: Deque<UnownedJob> = []

    func enqueue(_ job: consuming ExecutorJob) {
        jobs.append(UnownedJob(job))
    }

    /// Runs all queued jobs, including those that they queue. Returns whether there were any.
    func runWaiting() -> Bool {
        guard !jobs.isEmpty else { return false }
        while let job = jobs.popFirst() { job.runSynchronously(on: asUnownedTaskExecutor()) }
        return true
    }

    /// Runs `body` to its end.
    ///
    /// - Parameter elsewhere: does the pending work outside of this executor. Returns whether there was any.
    func run(
        _ body: @escaping @Sendable () async throws -> Void, elsewhere: () throws -> Bool = { false }
    ) throws {
        let outcome = Outcome()
        Task(executorPreference: self) {
            do {
                try await body()
                outcome.result = .success(())
            } catch {
                outcome.result = .failure(error)
            }
        }
        while true {
            let isBusy = runWaiting()
            if let result = outcome.result { return try result.get() }
            guard try elsewhere() || isBusy else {
                throw Failure("deadlock: no work is left, and the body has not ended")
            }
        }
    }

    /// `@unchecked Sendable`: used on the main thread only.
    private final class Outcome: @unchecked Sendable {
        var result: Result<Void, any Error>?
    }
}

/// A path did not do its work.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Checks that a path did its work.
///
/// - Throws: a ``Failure`` if the numbers differ.
func expect(_ found: Int, _ wanted: Int, _ what: String) throws {
    guard found == wanted else { throw Failure("\(what): \(found), not \(wanted)") }
}
