import DequeModule

/// Runs tasks on the main thread, one after the other, when it is told to: what is `async` takes the same instructions each time.
///
/// `@unchecked Sendable`: nothing here starts a thread, so all its jobs come from the main thread and are run there.
final class OneThread: TaskExecutor, @unchecked Sendable {
    private var jobs: Deque<UnownedJob> = []

    func enqueue(_ job: consuming ExecutorJob) {
        jobs.append(UnownedJob(job))
    }

    /// Runs what is waiting, and what comes of it here; whether there was anything.
    func runWaiting() -> Bool {
        guard !jobs.isEmpty else { return false }
        while let job = jobs.popFirst() { job.runSynchronously(on: asUnownedTaskExecutor()) }
        return true
    }

    /// Runs `body` to its end.
    ///
    /// - Parameter elsewhere: does what else there is to do meanwhile; whether there was anything.
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
            guard try elsewhere() || isBusy else { throw Failure("nothing is left to do, and it has not ended") }
        }
    }

    /// `@unchecked Sendable`: as its owner.
    private final class Outcome: @unchecked Sendable {
        var result: Result<Void, any Error>?
    }
}

/// A path did not do what it is there for.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// - Throws: a ``Failure`` where they differ: what is counted must also have happened.
func expect(_ found: Int, _ wanted: Int, _ what: String) throws {
    guard found == wanted else { throw Failure("\(what): \(found), not \(wanted)") }
}
