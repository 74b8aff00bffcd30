import Foundation

/// Writes text files into a Swift enumeration of dictionaries, so that the command carries them. Runs as a build tool:
/// see `EmbedFilesPlugin`.
///
///     embed-files OUTPUT NAME FOLDER SUFFIX [NAME FOLDER SUFFIX]…
///
/// Each dictionary `NAME` maps the paths of the files below `FOLDER` whose names end in `SUFFIX` to their text. The
/// suffix `.template` is removed from the paths.
@main struct EmbedFiles {
    static func main() throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard let output = arguments.first, arguments.count > 1, arguments.count % 3 == 1 else {
            throw Failure(description: "usage: embed-files OUTPUT NAME FOLDER SUFFIX [NAME FOLDER SUFFIX]…")
        }
        var text = "/// The files that `chanserv plugin new` writes, by path.\npackage enum EmbeddedFiles {\n"
        for start in stride(from: 1, to: arguments.count, by: 3) {
            text += try dictionary(
                name: arguments[start], folder: arguments[start + 1], suffix: arguments[start + 2])
        }
        text += "}\n"
        try text.write(toFile: output, atomically: true, encoding: .utf8)
    }

    private static func dictionary(name: String, folder: String, suffix: String) throws -> String {
        let root = URL(fileURLWithPath: folder, isDirectory: true)
        var text = "    package static let \(name): [String: String] = [\n"
        var isEmpty = true
        for path in try FileManager.default.subpathsOfDirectory(atPath: folder).sorted() where path.hasSuffix(suffix) {
            let file = root.appendingPathComponent(path)
            guard try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { continue }
            let contents = try String(contentsOf: file, encoding: .utf8)
            guard !contents.contains("\"\"\"###") else { throw Failure(description: "\(path) contains \"\"\"###") }
            let key = path.hasSuffix(".template") ? String(path.dropLast(".template".count)) : path
            // A raw string, because the files contain backslashes and quotation marks.
            text += "\"\(key)\": ###\"\"\"\n\(contents)\n\"\"\"###,\n"
            isEmpty = false
        }
        guard !isEmpty else { throw Failure(description: "\(folder) has no file that ends in \(suffix)") }
        return text + "    ]\n"
    }
}

private struct Failure: Error, CustomStringConvertible {
    var description: String
}
