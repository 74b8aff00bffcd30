internal import Glibc
internal import HostConfiguration

extension IsolationOptions {
    /// Environment of a process as `NAME=value` strings.
    var processEnvironment: [String] {
        let passed = environment.compactMap { name in getenv(name).map { "\(name)=\(String(systemString: $0))" } }
        // Swift's crash reports take seconds during which clients would wait for a process that is lost. An operator
        // who wants them lists the variable in `environment`.
        return environment.contains("SWIFT_BACKTRACE") ? passed : passed + ["SWIFT_BACKTRACE=enable=no"]
    }
}

extension IsolationOptions.Limits {
    /// Suffix for the reason why a process could not start. Empty if no limit is set that may be the cause.
    var hint: String {
        let names = [addressSpace.map { _ in "address_space" }, openFiles.map { _ in "open_files" }].compactMap {
            $0
        }
        return names.isEmpty ? "" : " (these limits may be too low: \(names.joined(separator: ", ")))"
    }
}
