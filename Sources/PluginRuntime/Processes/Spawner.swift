internal import CProcess
internal import DequeModule
@preconcurrency internal import Dispatch
internal import Glibc
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

    /// Lowest descriptor for the temporary copies. It is above all descriptors that a process inherits.
    private static let lowestCopy: Int32 = 64

    private static func spawnHere(_ program: ChildProcess.Program) throws(ProcessError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let standard = [program.input, program.output, program.errors]
        var copies: [Int32] = []
        defer { for copy in copies { close(copy) } }
        for (index, descriptor) in (standard + program.descriptors).enumerated() {
            guard let descriptor else {
                posix_spawn_file_actions_addopen(&actions, Int32(index), "/dev/null", O_RDWR, 0)
                continue
            }
            // Without the copy, a descriptor could be overwritten before it is passed on: descriptor 4 may become 3
            // while 3 becomes 4.
            let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, lowestCopy)
            guard copy >= 0 else {
                // If the limit of open files is below that number, the system reports EINVAL.
                let code = errno == EINVAL ? EMFILE : errno
                throw ProcessError("cannot pass descriptors to \(program.path)", code: code)
            }
            copies.append(copy)
            posix_spawn_file_actions_adddup2(&actions, copy, Int32(index))
        }
        chanserv_spawn_closes_from(&actions, Int32(3 + program.descriptors.count))

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))

        let arguments = program.arguments.map { strdup($0) }
        let environment = program.environment.map { strdup($0) }
        defer { for string in arguments + environment { free(string) } }
        var id: pid_t = 0
        let code = posix_spawn(&id, program.path, &actions, &attributes, arguments + [nil], environment + [nil])
        guard code == 0 else { throw ProcessError("cannot start \(program.path)", code: code) }
        return id
    }
}
