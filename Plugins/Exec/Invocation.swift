import ChanservPlugin
import Glibc

/// A command and its arguments, from a request that is allowed.
struct Invocation {
    /// Maximum bytes of the name and the arguments.
    private static let requestMax = 1 << 20

    let name: String
    let command: Options.Command
    /// The arguments of the configuration, followed by those of the request.
    let arguments: [String]
    /// The standard input; `nil` if it is empty.
    let input: ArraySlice<UInt8>?

    /// - Parameter request: the name of the command, followed by one argument in each line. If the command has `stdin`,
    ///   the rest behind its arguments is the standard input.
    init(_ request: [UInt8], _ commands: [String: Options.Command]) throws(PluginError) {
        let (head, input) = Self.split(request, commands)
        guard head.count <= Self.requestMax, let text = String(validating: head, as: UTF8.self), !head.contains(0)
        else {
            throw PluginError(.badRequest, "a request is at most 1 MiB of UTF-8, without zero bytes")
        }
        self.input = input
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.count > 1 && lines.last == "" && input == nil { lines.removeLast() }
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

    /// Splits a request behind the lines of the name and the arguments if the command has `stdin`.
    private static func split(
        _ request: [UInt8], _ commands: [String: Options.Command]
    ) -> (head: ArraySlice<UInt8>, input: ArraySlice<UInt8>?) {
        let newline = UInt8(ascii: "\n")
        guard let first = request.firstIndex(of: newline),
            let command = commands[String(decoding: request[..<first], as: UTF8.self)], command.stdin == true
        else { return (request[...], nil) }
        var end = first
        for _ in 0..<(command.arguments ?? 0) {
            guard let next = request[(end + 1)...].firstIndex(of: newline) else { return (request[...], nil) }
            end = next
        }
        return (request[..<end], request[(end + 1)...])
    }

    /// The environment of the program: only the variables that the configuration lists.
    var environment: [String] {
        (command.environment ?? []).compactMap { variable in
            if variable.contains("=") { return variable }
            return getenv(variable).map { "\(variable)=\(String(cString: $0))" }
        }
    }
}
