import ChanservPlugin
import Glibc

/// The plugin's options: the contents of `config:`.
struct Options: Decodable {
    /// The commands that a request can run, by name.
    let commands: [String: Command]
    /// The maximum number of processes that run at the same time (default 16). Further requests fail as busy.
    let processes: Int
    /// The time between SIGTERM and SIGKILL (default 5 s).
    let grace: Duration
    /// The contents of a frame (default: one line).
    let unit: Unit

    enum Unit: String, Decodable, CaseIterable { case lines, chunks }

    struct Command: Decodable {
        /// The program and its fixed arguments.
        let run: Program
        /// The maximum number of arguments that a request may add (default 0).
        let arguments: Int?
        /// The values that such an argument may have. Default: any value that does not begin with `-`.
        let allowed: [String]?
        /// The maximum run time. Default: unlimited.
        let timeout: Duration?
        /// The working directory. Default: the root folder.
        let folder: ConfiguredPath?
        /// Environment variables: copied from the host (`PATH`) or set here (`LANG=C`). Default: none.
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

    /// Throws a bad request error if a value is out of its range or a program or folder does not exist.
    func check() throws(PluginError) {
        guard (1...1024).contains(processes) else {
            throw PluginError(.badRequest, "processes: \(processes) is not between 1 and 1024")
        }
        guard grace <= .seconds(3600) else { throw PluginError(.badRequest, "grace: the value is more than 1h") }
        guard !commands.isEmpty else { throw PluginError(.badRequest, "commands: there must be at least one command") }
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
            try refuse("the name is empty or has a control character, so no request can select it")
        }
        if run.arguments.contains(where: { $0.utf8.contains(0) }) { try refuse("run: an argument has a zero byte") }
        var status = stat()
        guard stat(run.path.string, &status) == 0 else {
            try refuse("run: \(run.path.string): \(String(cString: strerror(errno)))")
        }
        guard status.st_mode & S_IFMT == S_IFREG, access(run.path.string, X_OK) == 0 else {
            try refuse("run: \(run.path.string) is not a program")
        }
        guard (0...1024).contains(arguments ?? 0) else { try refuse("arguments: the value is not between 0 and 1024") }
        if allowed != nil && arguments ?? 0 == 0 { try refuse("allowed: there are no arguments to allow") }
        if let timeout, timeout < .milliseconds(1) { try refuse("timeout: the value is less than 1ms") }
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
