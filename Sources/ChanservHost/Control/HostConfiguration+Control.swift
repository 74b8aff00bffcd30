extension HostConfiguration {
    /// Where the host of a configuration file takes commands, whatever else is wrong in the file: whoever asks for a reload
    /// may have just made a mistake, and the host is to say which.
    ///
    /// Blocks on the file system.
    ///
    /// - Returns: an absolute path, `nil` where the file names no control socket.
    /// - Throws: ``ConfigurationErrors`` where the file cannot be read as YAML, or what stands under `node.control` is wrong.
    package static func controlSocket(of file: String) throws(ConfigurationErrors) -> String? {
        let bytes: [UInt8]
        let folder: String
        do throws(FileProblem) {
            bytes = try readBytes(file, limit: YAMLLimits().fileSize)
            folder = try absoluteFolder(of: file)
        } catch {
            throw ConfigurationErrors([ConfigurationError(error.message, at: ConfigurationLocation(file: file))])
        }
        let (root, problems) = YAMLReader.read(bytes, file: file)
        guard let root else {
            if problems.isEmpty { return nil }
            throw ConfigurationErrors(problems)
        }
        guard let socket = root.entry("node")?.entry("control") else { return nil }
        do throws(ConfigurationError) {
            return try socket.socketPath(relativeTo: folder)
        } catch {
            throw ConfigurationErrors([error])
        }
    }
}

extension YAMLNode {
    /// The value of a key, `nil` where this is no mapping or has no such key.
    fileprivate func entry(_ key: String) -> YAMLNode? {
        guard case .mapping(let entries) = content else { return nil }
        return entries.first { $0.key == key }?.value
    }

    /// A path that fits into the address of a Unix socket.
    func socketPath(relativeTo folder: String) throws(ConfigurationError) -> String {
        let path = try path(relativeTo: folder)
        guard path.utf8.count <= ControlSocketFile.longestPath else {
            throw ConfigurationError(
                "the path of the control socket, \(quoted(path)), has \(path.utf8.count) bytes; a socket's may have "
                    + "\(ControlSocketFile.longestPath): choose a shorter one, such as /run/chanserv.sock", at: location
            )
        }
        return path
    }
}
