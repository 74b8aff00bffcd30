/// Error that prevented a plugin's library from being loaded. The description names the file, the cause and the remedy.
package struct PluginLoadError: Error, Sendable, Hashable {
    /// Kind of failure. Later versions may add more.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        package let description: String

        /// The file does not exist or cannot be opened.
        package static let unreadable = Code(description: "unreadable")
        /// The process or the system has run out of descriptors or memory.
        package static let outOfResources = Code(description: "out of resources")
        /// The path ends in a symbolic link.
        package static let symbolicLink = Code(description: "symbolic link")
        /// The path is a folder, a device or a pipe.
        package static let notAFile = Code(description: "not a file")
        /// A user other than root and the host's user owns the file or its folder, or can write to it.
        package static let unsafePermissions = Code(description: "unsafe permissions")
        /// The file exceeds the maximum size.
        package static let tooLarge = Code(description: "too large")
        /// The file changed while it was read, or it is shorter than its headers state.
        package static let incomplete = Code(description: "incomplete")
        /// The SHA-256 of the file is not the pinned one.
        package static let wrongDigest = Code(description: "wrong digest")
        /// The file is not an ELF shared library for this machine.
        package static let notALibrary = Code(description: "not a library")
        /// No candidate folder for the private copy allows execution, or the copy cannot be written.
        package static let noPrivateFolder = Code(description: "no private folder")
        /// A library that the plugin needs, directly or indirectly, is not found.
        package static let missingLibrary = Code(description: "missing library")
        /// The process has another library of the same name, or with the same unique symbols.
        package static let libraryConflict = Code(description: "library conflict")
        /// Loading the library would make the stacks of all threads executable.
        package static let executableStack = Code(description: "executable stack")
        /// The linker would have to write to the code of the library.
        package static let textRelocations = Code(description: "text relocations")
        /// The dynamic linker refused it.
        package static let linkFailed = Code(description: "link failed")
        /// The library does not export the entry function.
        package static let noEntry = Code(description: "no entry")
        /// The host rejected the plugin's descriptor.
        package static let badDescriptor = Code(description: "bad descriptor")
    }

    /// Kind of failure.
    package var code: Code
    /// Path of the library as configured.
    package var path: String
    /// Cause and remedy, without the path.
    package var message: String

    package init(_ code: Code, path: String, _ message: String) {
        self.code = code
        self.path = path
        self.message = message
    }
}

extension PluginLoadError: CustomStringConvertible {
    package var description: String { "\(path): \(message)" }
}
