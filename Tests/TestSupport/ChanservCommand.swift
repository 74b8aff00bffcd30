import Foundation

/// The built `chanserv` command.
package enum ChanservCommand {
    /// The folder of the built command and plugins: `CHANSERV_TEST_FOLDER`, or that of the running tests if it is not
    /// set.
    package static let buildFolder: String = {
        if let folder = ProcessInfo.processInfo.environment["CHANSERV_TEST_FOLDER"] { return folder }
        do {
            let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            return URL(fileURLWithPath: tests).deletingLastPathComponent().path
        } catch {
            fatalError("cannot find the build folder: \(error)")
        }
    }()

    /// The built library of a sample plugin.
    ///
    /// - Parameter name: `Echo`, or `libEcho.so`, its name where it is installed.
    package static func plugin(_ name: String) -> String {
        let name = name.hasPrefix("lib") && name.hasSuffix(".so") ? String(name.dropFirst(3).dropLast(3)) : name
        return "\(buildFolder)/libChanserv\(name).so"
    }

    /// Starts the command.
    package static func start(
        _ arguments: String..., folder: String? = nil, input: String? = nil, errors: FileHandle? = nil,
        keepsOutput: Bool = true
    ) throws -> ChildProcess {
        try ChildProcess(
            buildFolder + "/chanserv", arguments, folder: folder, input: input.map { Data($0.utf8) }, errors: errors,
            keepsOutput: keepsOutput)
    }

    /// Runs the command and waits for its exit.
    package static func run(_ arguments: String..., folder: String? = nil, input: String? = nil) async throws
        -> ChildProcess.Exit
    {
        try await run(arguments, folder: folder, input: input)
    }

    package static func run(_ arguments: [String], folder: String? = nil, input: String? = nil) async throws
        -> ChildProcess.Exit
    {
        try await ChildProcess(
            buildFolder + "/chanserv", arguments, folder: folder, input: input.map { Data($0.utf8) }
        ).exit()
    }
}
