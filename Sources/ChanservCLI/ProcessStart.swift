import CProcess
import Glibc

/// What a process must do before it opens files or creates threads.
enum ProcessStart {
    /// Opens `/dev/null` in place of standard descriptors that the parent process closed. Otherwise the next file that
    /// this process opens would get such a number, and log lines would be written into it.
    static func openStandardDescriptors() {
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
            // The system assigns the lowest free number, which is this one.
            // Output fails, as with a closed descriptor; input is empty.
            _ = open("/dev/null", O_RDONLY)
        }
    }

    /// Continues in a child process if this process is the init process of a container. An init process must reap
    /// orphans and would not be ended by signals that it does not handle.
    static func leaveInit() {
        isChildOfInit = chanserv_leave_init() != 0
    }

    /// Whether the init process of a container, which ends with this process, is another copy of this program.
    ///
    /// Unsafe for the compiler: it is written once, before the first thread is created.
    private(set) nonisolated(unsafe) static var isChildOfInit = false
}
