import ArgumentParser
import HostConfiguration

enum CommandLineArguments {
    /// The arguments without the name of the program. `CommandLine.arguments` replaces bytes that are not UTF-8; these
    /// keep them. Paths and bodies use ``Swift/String/systemBytes``. Other options refuse them with ``utf8Text(_:)``.
    static var all: [String] {
        UnsafeBufferPointer(start: CommandLine.unsafeArgv, count: Int(CommandLine.argc)).dropFirst().compactMap {
            $0.map { String(systemString: $0) }
        }
    }
}

/// Parses the value of an argument that is text on the wire or in a file, which must be UTF-8.
func utf8Text(_ argument: String) throws(ValidationError) -> String {
    guard !argument.hasBytesThatAreNotUTF8 else { throw ValidationError("'\(argument)' is not UTF-8") }
    return argument
}
