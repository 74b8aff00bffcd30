internal import CProcess
internal import DequeModule
@preconcurrency internal import Dispatch
internal import Glibc
internal import HostConfiguration
internal import NIOConcurrencyHelpers

/// Thread that starts processes and lives as long as this process. `PR_SET_PDEATHSIG` refers to the end of the *thread*
/// that started the child, and all other threads of this process may end earlier.
enum Spawner {
    private static let jobs = NIOLockedValueBox<Deque<@Sendable () -> Void>>([])
    private static let available = DispatchSemaphore(value: 0)

    private static let thread: Void = {
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { _ in
                _ = chanserv_name_thread("spawner")
                while true {
                    Spawner.available.wait()
                    Spawner.jobs.withLockedValue { $0.popFirst() }?()
                }
            }, nil)
        precondition(result == 0, "no thread to start processes: \(systemMessage(result))")
        pthread_detach(thread)
    }()

    /// Starts `program` and returns its process id.
    static func spawn(_ program: ChildProcess.Program) async throws(ProcessError) -> pid_t {
        _ = thread
        let result = await withUnsafeContinuation {
            (continuation: UnsafeContinuation<Result<pid_t, ProcessError>, Never>) in
            jobs.withLockedValue { jobs in
                jobs.append {
                    do throws(ProcessError) {
                        continuation.resume(returning: .success(try spawnHere(program)))
                    } catch {
                        continuation.resume(returning: .failure(error))
                    }
                }
            }
            available.signal()
        }
        return try result.get()
    }

    private static func spawnHere(_ program: ChildProcess.Program) throws(ProcessError) -> pid_t {
        let standard = [program.input, program.output, program.errors].map { $0 ?? -1 }
        let descriptors = standard + program.descriptors
        let arguments = program.arguments.map { strdup($0.systemString) }
        let environment = program.environment.map { strdup($0.systemString) }
        defer { for string in arguments + environment { free(string) } }
        var id: pid_t = 0
        let code = chanserv_spawn(
            &id, program.path, arguments + [nil], environment + [nil], descriptors, Int32(descriptors.count), nil)
        guard code == 0 else { throw ProcessError("cannot start \(program.path)", code: code) }
        return id
    }
}
