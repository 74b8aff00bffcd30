import ChanservPlugin
import Glibc

/// A command and its arguments, from a request that is allowed.
struct Invocation {
    /// Maximum bytes of a request.
    private static let requestMax = 1 << 20

    let name: String
    let command: Options.Command
    /// The arguments of the configuration, followed by those of the request.
    let arguments: [String]

    /// - Parameter request: the name of the command, followed by one argument in each line.
    init(_ request: [UInt8], _ commands: [String: Options.Command]) throws(PluginError) {
        guard request.count <= Self.requestMax, let text = String(validating: request, as: UTF8.self),
            !request.contains(0)
        else {
            throw PluginError(.badRequest, "a request is at most 1 MiB of UTF-8, without zero bytes")
        }
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.count > 1 && lines.last == "" { lines.removeLast() }
        name = lines.removeFirst()
        guard let command = commands[name] else {
            throw PluginError(.notFound, "there is no command '\(name)'")
        }
        let most = command.arguments ?? 0
        guard lines.count <= most else {
            let limit = most == 0 ? "no arguments" : "at most \(most) arguments"
            throw PluginError(.badRequest, "'\(name)' takes \(limit), but the request has \(lines.count)")
        }
        for argument in lines {
            if let allowed = command.allowed {
                guard allowed.contains(argument) else {
                    throw PluginError(.badRequest, "'\(name)' does not take the argument '\(argument)'")
                }
            } else if argument.hasPrefix("-") {
                // The argument would be an option. Options can make harmless programs write files and run other
                // programs.
                throw PluginError(.badRequest, "'\(name)' takes no argument that begins with '-'")
            }
        }
        self.command = command
        arguments = command.run.arguments + lines
    }

    /// The environment of the program: only the variables that the configuration lists.
    var environment: [String] {
        (command.environment ?? []).compactMap { variable in
            if variable.contains("=") { return variable }
            return getenv(variable).map { "\(variable)=\(String(cString: $0))" }
        }
    }
}
