import ArgumentParser
import FoundationEssentials
import HostConfiguration

/// An error of the command line, in the words of this command.
struct CommandLineProblem: Error {
    var message: String
    /// The command whose help page describes the arguments, such as `chanserv post`.
    var command: String

    init(_ message: String, command: String) {
        self.message = message
        self.command = command
    }

    /// Describes an error of the parser.
    ///
    /// - Parameters:
    ///   - error: the error.
    ///   - arguments: the arguments of the command line, without the name of the program.
    init(_ error: any Error, arguments: [String]) {
        let (command, rest) = CommandPath.find(arguments)
        self.init(
            command.misspeltOption(in: rest)
                ?? Self.plain(ChanservCommand.message(for: error), command, arguments: arguments),
            command: command.text)
    }

    /// Returns the parser's message as a part of a sentence on one line.
    private static func plain(_ text: String, _ command: CommandPath, arguments: [String]) -> String {
        var text = text.replacing("\n  - ", with: ", ").replacing(":, ", with: ": ")
            .replacing(". Please provide one of", with: "; give one of").replacing("\n", with: " ")
            .replacing("<->", with: "-")
        if text.hasSuffix(".") { text.removeLast() }
        text = text.prefix(1).lowercased() + text.dropFirst()
        // The reason contains the value.
        if let match = text.wholeMatch(of: #/the value '.*' is invalid for '(--[a-z-]+|<[a-z]+>)(?: <.*>)?': (.*)/#) {
            return "\(match.output.1): \(match.output.2)"
        }
        guard let extra = text.wholeMatch(of: #/unexpected argument '(.*)'/#)?.output.1 else { return text }
        if arguments.contains("--join"), (try? HostAddress(joinable: String(extra))) != nil {
            return text + ": give each node with its own --join"
        }
        if command.optionNames.contains("config"), command.names.last != "test" {
            return text + ": give the configuration file with --config"
        }
        return text
    }
}

/// A command and the commands above it.
struct CommandPath {
    private(set) var types: [any ParsableCommand.Type] = [ChanservCommand.self]
    private(set) var names = ["chanserv"]

    /// The names, such as `chanserv plugin test`.
    var text: String { names.joined(separator: " ") }

    private var subcommands: [any ParsableCommand.Type] { types[types.count - 1].configuration.subcommands }

    /// Follows the names of subcommands. Returns the arguments after them too.
    static func find(_ arguments: [String]) -> (path: CommandPath, rest: ArraySlice<String>) {
        var path = CommandPath()
        var rest = arguments[...]
        while let name = rest.first, let type = path.subcommand(named: name) {
            path.types.append(type)
            path.names.append(name)
            rest = rest.dropFirst()
        }
        return (path, rest)
    }

    /// Checks the names of subcommands, also those after `help`.
    static func check(_ arguments: [String]) throws(CommandLineProblem) {
        let arguments = arguments.first == "help" ? Array(arguments.dropFirst()) : arguments
        let (path, rest) = find(arguments)
        guard let name = rest.first, !name.hasPrefix("-"), !path.subcommands.isEmpty, name != "help" else { return }
        throw CommandLineProblem(path.unknown(name), command: path.text)
    }

    private func subcommand(named name: String) -> (any ParsableCommand.Type)? {
        subcommands.first { $0._commandName == name }
    }

    private func unknown(_ name: String) -> String {
        if types.count == 1, ["stop", "quit", "shutdown", "kill"].contains(name) {
            return "unknown command '\(name)': a host stops with SIGTERM; 'chanserv status' shows its process id"
        }
        let known = subcommands.filter { $0.configuration.shouldDisplay }.map { $0._commandName }
        let hint = NearestKey.find(name, among: known).map { "; did you mean '\($0)'?" }
        return "unknown command '\(name)'" + (hint ?? " (known: \(known.joined(separator: ", ")))")
    }

    // MARK: - Options

    /// The long options of the command, without dashes.
    var optionNames: [String] { options.flatMap(\.longNames) }

    /// Returns the message about the first unknown long option; `nil` if all options are known.
    func misspeltOption(in arguments: ArraySlice<String>) -> String? {
        let options = options
        let names = options.flatMap(\.longNames)
        guard !names.isEmpty else { return nil }
        let withValue = Set(options.filter { $0.kind == "option" }.flatMap(\.longNames))
        var rest = arguments
        while let argument = rest.popFirst(), argument != "--" {
            guard argument.hasPrefix("--") else { continue }
            let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            guard names.contains(name) else {
                guard !name.hasPrefix("experimental-"), name != "generate-completion-script" else { continue }
                let hint = NearestKey.find(name, among: names).map { "; did you mean '--\($0)'?" }
                return "unknown option '--\(name)'" + (hint ?? "")
            }
            // The value may begin with dashes.
            if parts.count == 1, withValue.contains(name) { rest = rest.dropFirst() }
        }
        return nil
    }

    private struct Option: Decodable {
        struct Name: Decodable {
            var kind: String
            var name: String
        }

        var kind: String
        var names: [Name]?

        var longNames: [String] { (names ?? []).filter { $0.kind == "long" }.map(\.name) }
    }

    private var options: [Option] {
        struct Dump: Decodable {
            struct Command: Decodable { var arguments: [Option]? }
            var command: Command
        }
        do {
            let dump = Data(types[types.count - 1]._dumpHelp().utf8)
            return try JSONDecoder().decode(Dump.self, from: dump).command.arguments ?? []
        } catch {
            // The parser's own message is shown then.
            return []
        }
    }
}
