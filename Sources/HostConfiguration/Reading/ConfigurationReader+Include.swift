/// The sections of one file.
struct ConfigurationPart {
    /// The absolute folder that relative paths are resolved against.
    var folder: String
    var plugins: YAMLNode?
    var routes: YAMLNode?
}

extension ConfigurationReader {
    /// Maximum files that `include` adds.
    private static let maxIncludes = 4_096

    /// Reads the files that `include` names. They may have the sections `plugins` and `routes`.
    ///
    /// - Parameters:
    ///   - node: one pattern or a list of them, relative to the folder of `file`.
    ///   - file: the main file as the caller passed it.
    mutating func included(_ node: YAMLNode, in file: String, _ files: ConfigurationFiles) -> [ConfigurationPart] {
        if case .unusable = node.content { return [] }
        if node.isNull { return [] }
        var parts: [ConfigurationPart] = []
        var seen: Set<String> = [file]
        let patterns = if case .list(let elements) = node.content { elements } else { [node] }
        for element in patterns {
            let text = attempt { () throws(ConfigurationError) in
                try element.string("a file or a pattern such as conf.d/*.yaml")
            }
            guard let text, !text.isEmpty else { continue }
            // Relative to the main file as it was passed, so that messages show what the operator knows.
            let parent = file.lastIndex(of: "/").map { String(file[...$0]) } ?? ""
            let folder = text.hasPrefix("/") ? "" : parent
            var matches: [String] = []
            do throws(FileProblem) {
                matches = try files.matches(folder, text)
            } catch {
                report("the folder of the included files \(error.message)", at: element.location)
            }
            source.matches[folder + text] = matches
            for path in matches where seen.insert(path).inserted {
                guard parts.count < Self.maxIncludes else {
                    report("more than \(Self.maxIncludes) files are included", at: element.location)
                    return parts
                }
                if let part = part(path, from: element.location, files) { parts.append(part) }
            }
        }
        return parts
    }

    private mutating func part(
        _ path: String, from location: ConfigurationLocation, _ files: ConfigurationFiles
    ) -> ConfigurationPart? {
        let bytes: [UInt8]
        let folder: String
        do throws(FileProblem) {
            bytes = try files.read(path)
            source.included[path] = bytes
            folder = try absoluteFolder(of: path)
        } catch {
            report("the included file \(quoted(path)) \(error.message)", at: location)
            return nil
        }
        let problem =
            files.access(path).problem(with: path)
            ?? files.access(folder).problem(with: folder, "the folder of this file")
        if let problem {
            report(problem, at: ConfigurationLocation(file: path))
            return nil
        }
        let (root, problems) = YAMLReader.read(bytes, file: path, substitution: YAMLSubstitution(folder: folder))
        self.problems += problems
        // A file with all keys commented out adds nothing.
        guard let root else { return nil }
        let elsewhere = Dictionary(
            uniqueKeysWithValues: ["node", "log", "access", "defaults", "include", "drop_in"].map {
                ($0, "in the main file")
            })
        let entries = entries(root, "an included file", known: ["plugins", "routes"], elsewhere: elsewhere)
        return ConfigurationPart(folder: folder, plugins: entries["plugins"]?.value, routes: entries["routes"]?.value)
    }
}
