import ChanservHost
import Glibc
import HostConfiguration

/// The running executable, for starting child processes.
enum OwnProgram {
    /// Path of the executable that this process runs, even if an upgrade has replaced the file since.
    static let path = "/proc/self/exe"

    /// Returns the command that starts this program again, for an upgrade. Must be called before the file of this
    /// program is replaced, so early in the process.
    static func successorLaunch() -> SuccessorLaunch {
        var bytes = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlink(path, &bytes, bytes.count - 1)
        let executable = count > 0 ? bytes.withUnsafeBufferPointer { String(systemString: $0.baseAddress!) } : path
        let name = CommandLine.unsafeArgv[0].map { String(systemString: $0) } ?? executable
        return SuccessorLaunch(arguments: [name] + CommandLineArguments.all, executable: executable)
    }
}
