/// Why a plugin's library could not be loaded. The description names the file and the way out.
package struct PluginLoadError: Error, Sendable, Hashable {
    /// The kind of failure; more may be added.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        package let description: String

        /// There is no such file, or it cannot be opened.
        package static let unreadable = Code(description: "unreadable")
        /// The process or the system is out of descriptors or memory.
        package static let outOfResources = Code(description: "out of resources")
        /// The path ends in a symbolic link.
        package static let symbolicLink = Code(description: "symbolic link")
        /// A folder, a device, a pipe.
        package static let notAFile = Code(description: "not a file")
        /// Somebody other than root and the host's user owns or can write the file or its folder.
        package static let unsafePermissions = Code(description: "unsafe permissions")
        /// Larger than a plugin may be.
        package static let tooLarge = Code(description: "too large")
        /// It changed while it was read, or ends before what its headers describe.
        package static let incomplete = Code(description: "incomplete")
        /// Its SHA-256 is not the pinned one.
        package static let wrongDigest = Code(description: "wrong digest")
        /// No ELF shared library for this machine.
        package static let notALibrary = Code(description: "not a library")
        /// No private folder in which the copy may be executed.
        package static let noPrivateFolder = Code(description: "no private folder")
        /// A library that it needs, or that one of those needs, is not found.
        package static let missingLibrary = Code(description: "missing library")
        /// It would make the stacks of all threads executable.
        package static let executableStack = Code(description: "executable stack")
        /// Its code would have to be written to.
        package static let textRelocations = Code(description: "text relocations")
        /// The dynamic linker refused it.
        package static let linkFailed = Code(description: "link failed")
        /// It does not export the entry, a function.
        package static let noEntry = Code(description: "no entry")
        /// Its descriptor was refused.
        package static let badDescriptor = Code(description: "bad descriptor")
    }

    /// The kind of failure.
    package var code: Code
    /// The library's path as configured.
    package var path: String
    /// What is wrong and the way out, without the path.
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
