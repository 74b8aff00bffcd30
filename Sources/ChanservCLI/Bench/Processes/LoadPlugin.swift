import Glibc

/// The location of the Load plugin.
enum LoadPlugin {
    private static let file = "libLoad.so"

    /// Returns the absolute path of the plugin.
    ///
    /// - Parameter given: the path from the command line; `nil` to search beside the executable and in `Plugins`.
    /// - Throws: ``BenchError`` with reason `configuration` if there is no such file.
    static func path(_ given: String?) throws(BenchError) -> String {
        let candidates = given.map { [$0] } ?? [executableFolder() + "/" + file, "Plugins/" + file]
        for candidate in candidates {
            guard let real = realpath(candidate, nil) else { continue }
            defer { free(real) }
            return String(cString: real)
        }
        if let given { throw BenchError(.configuration, "\(SystemError("cannot find '\(given)'"))") }
        throw BenchError(
            .configuration,
            "\(file) not found at \(candidates.joined(separator: " or ")): build it with 'swift build -c release "
                + "--product Load', or give its path with --plugin")
    }

    private static func executableFolder() -> String {
        guard let real = realpath("/proc/self/exe", nil) else { return "." }
        defer { free(real) }
        let path = String(cString: real)
        return String(path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex))
    }
}
