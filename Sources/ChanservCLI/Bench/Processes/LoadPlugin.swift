import Glibc
import HostConfiguration

/// The location of the Load plugin.
enum LoadPlugin {
    /// Its name where it is installed.
    private static let file = "libLoad.so"
    /// Its name in a build folder.
    private static let product = "ChanservLoad"

    /// Returns the absolute path of the plugin.
    ///
    /// - Parameter given: the path from the command line; `nil` to search beside the executable and in `Plugins`.
    /// - Throws: ``BenchError`` with reason `configuration` if there is no such file.
    static func path(_ given: String?) throws(BenchError) -> String {
        let folder = executableFolder()
        let candidates = given.map { [$0] } ?? ["\(folder)/\(file)", "\(folder)/lib\(product).so", "Plugins/\(file)"]
        for candidate in candidates {
            guard let real = realpath(candidate.systemString, nil) else { continue }
            defer { free(real) }
            let path = String(systemString: real)
            guard !path.hasBytesThatAreNotUTF8 else {
                throw BenchError(.configuration, "the path '\(path)' is not UTF-8: copy the plugin to another folder")
            }
            return path
        }
        if let given { throw BenchError(.configuration, "\(SystemError("cannot find '\(given)'"))") }
        throw BenchError(
            .configuration,
            "there is no Load plugin at \(candidates.joined(separator: " or ")): build it with 'swift build -c release "
                + "--product \(product)', or name it with --plugin")
    }

    private static func executableFolder() -> String {
        guard let real = realpath("/proc/self/exe", nil) else { return "." }
        defer { free(real) }
        let path = String(systemString: real)
        return String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex))
    }
}
