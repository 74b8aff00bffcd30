import ChanservPlugin
import Glibc

/// The configuration of an instance.
struct Options: Decodable {
    /// The commands that are allowed, by name.
    let commands: [String: Command]
    /// Maximum concurrent commands; further requests are refused as busy.
    let processes: Int
    /// Time between SIGTERM and SIGKILL.
    let grace: Duration
    /// The content of a frame.
    let unit: Unit

    enum Unit: String, Decodable, CaseIterable { case lines, chunks }

    struct Command: Decodable {
        /// The program and its fixed arguments.
        let run: Program
        /// Maximum arguments in a request. Default 0.
        let arguments: Int?
        /// The allowed values of each argument. By default all values that do not begin with `-`.
        let allowed: [String]?
        /// Whether the rest of the request, behind exactly ``arguments`` arguments, is the standard input. By default
        /// the standard input is empty.
        let stdin: Bool?
        /// Maximum run time. Default: no limit.
        let timeout: Duration?
        /// The working directory. Default: the root folder.
        let folder: ConfiguredPath?
        /// The environment: names of variables that are copied from the host (`PATH`), and values (`LANG=C`).
        /// Default: empty.
        let environment: [String]?
    }

    struct Program: Decodable {
        let path: ConfiguredPath
        let arguments: [String]

        init(from decoder: any Decoder) throws {
            var list = try decoder.unkeyedContainer()
            path = try list.decode(ConfiguredPath.self)
            var arguments: [String] = []
            while !list.isAtEnd { arguments.append(try list.decode(String.self)) }
            self.arguments = arguments
        }
    }

    private enum Key: CodingKey { case commands, processes, grace, unit }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        commands = try values.decode([String: Command].self, forKey: .commands)
        processes = try values.decodeIfPresent(Int.self, forKey: .processes) ?? 16
        grace = try values.decodeIfPresent(Duration.self, forKey: .grace) ?? .seconds(5)
        unit = try values.decodeIfPresent(Unit.self, forKey: .unit) ?? .lines
    }

    /// Throws if a value is invalid.
    func check() throws(PluginError) {
        guard (1...1024).contains(processes) else {
            throw PluginError(.badRequest, "processes: \(processes) is not between 1 and 1024")
        }
        guard grace <= .seconds(3600) else { throw PluginError(.badRequest, "grace is more than 1h") }
        guard !commands.isEmpty else { throw PluginError(.badRequest, "commands: at least one command is required") }
        for (name, command) in commands.sorted(by: { $0.key < $1.key }) {
            do throws(PluginError) {
                try command.check(name)
            } catch {
                throw PluginError(error.code, "commands.\(name): \(error.message)")
            }
        }
    }
}

extension Options.Command {
    fileprivate func check(_ name: String) throws(PluginError) {
        func refuse(_ message: String) throws(PluginError) -> Never { throw PluginError(.badRequest, message) }

        if name.isEmpty || name.utf8.contains(where: { $0 < 0x20 }) {
            try refuse("the name is empty or has a control character")
        }
        if run.arguments.contains(where: { $0.utf8.contains(0) }) { try refuse("run: an argument has a zero byte") }
        var status = stat()
        guard stat(run.path.string, &status) == 0 else {
            try refuse("run: \(run.path.string): \(String(cString: strerror(errno)))")
        }
        guard status.st_mode & S_IFMT == S_IFREG, access(run.path.string, X_OK) == 0 else {
            try refuse("run: \(run.path.string) is not a program")
        }
        guard (0...1024).contains(arguments ?? 0) else { try refuse("arguments is not between 0 and 1024") }
        if allowed != nil && arguments ?? 0 == 0 { try refuse("allowed: there are no arguments to allow") }
        if let timeout, timeout < .milliseconds(1) { try refuse("timeout is less than 1ms") }
        if let folder {
            guard stat(folder.string, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
                try refuse("folder: \(folder.string) is not a folder")
            }
        }
        for variable in environment ?? [] {
            if variable.isEmpty || variable.hasPrefix("=") || variable.utf8.contains(0) {
                try refuse("environment: '\(variable)' is neither NAME nor NAME=value")
            }
        }
    }
}
