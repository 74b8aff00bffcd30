import ArgumentParser
import HostConfiguration

/// A plugin name that is a valid identifier in every language and a valid file name.
struct PluginName {
    let text: String

    init(_ text: String) throws(ValidationError) {
        let isValid = text.utf8.enumerated().allSatisfy { index, byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): true
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): index > 0
            default: false
            }
        }
        guard isValid, (1...63).contains(text.utf8.count) else {
            throw ValidationError(
                """
                '\(text)' is not a name: use a lower-case letter, then lower-case letters, digits or '_', at most 63 \
                characters.
                """)
        }
        self.text = text
    }

    /// The name in the form of a type name: `stock_quotes` becomes `StockQuotes`.
    var typeName: String {
        text.split(separator: "_").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }
}

enum PluginLanguage: String, CaseIterable, Sendable {
    case c, cpp, swift, rust, go

    var title: String {
        switch self {
        case .c: "C"
        case .cpp: "C++"
        case .swift: "Swift"
        case .rust: "Rust"
        case .go: "Go"
        }
    }
}

/// The content of a new plugin's folder.
struct NewPlugin {
    let name: PluginName
    let language: PluginLanguage
    /// The path or URL of the chanserv package to depend on; `nil` for a copy of the SDK.
    let sdk: String?

    /// The text of each file by its path in the folder.
    var files: [String: String] {
        var files: [String: String] = [:]
        for (path, text) in EmbeddedFiles.templates {
            let parts = path.split(separator: "/", maxSplits: 1)
            guard parts[0] == "common" || parts[0] == language.rawValue else { continue }
            files[String(parts[1]).replacing("PLUGIN", with: sourceName)] = fill(text)
        }
        if language == .swift {
            if sdk == nil {
                for (path, text) in EmbeddedFiles.sdk { files["SDK/ChanservPlugin/\(path)"] = text }
                for (path, text) in EmbeddedFiles.sdkC { files["SDK/CChanservPlugin/\(path)"] = text }
                for (path, text) in EmbeddedFiles.include { files["SDK/CChanservPlugin/include/\(path)"] = text }
            }
        } else {
            for (path, text) in EmbeddedFiles.include where path.hasSuffix(".h") { files["include/\(path)"] = text }
        }
        return files
    }

    /// The name of the source file without its extension.
    private var sourceName: String { language == .swift ? "\(name.typeName)Plugin" : name.text }

    private func fill(_ text: String) -> String {
        let values = [
            "{{name}}": name.text, "{{Type}}": name.typeName, "{{sdk}}": language == .swift ? packageParts : "",
        ]
        return values.reduce(text) { text, value in text.replacing(value.key, with: value.value) }
    }

    /// The end of the package manifest: the dependencies and the targets.
    private var packageParts: String {
        guard let sdk else {
            return """
                    targets: [
                        // A copy of the SDK of the chanserv command that created this folder.
                        .target(name: "CChanservPlugin", path: "SDK/CChanservPlugin"),
                        .target(name: "ChanservPlugin", dependencies: ["CChanservPlugin"], path: "SDK/ChanservPlugin"),
                        .target(name: "\(sourceName)", dependencies: ["CChanservPlugin", "ChanservPlugin"]),
                    ]
                """
        }
        let package =
            if sdk.contains("://") || sdk.hasPrefix("git@") {
                "url: \(quoted(sdk)), from: \"\(ChanservCommand.version)\""
            } else {
                // The path is relative to the package's folder, which is one level below the current folder.
                "name: \"chanserv\", path: \(quoted(sdk.hasPrefix("/") ? sdk : "../" + sdk))"
            }
        return """
                dependencies: [.package(\(package))],
                targets: [
                    .target(
                        name: "\(sourceName)", dependencies: [.product(name: "ChanservPlugin", package: "chanserv")])
                ]
            """
    }

    /// Returns `text` as a Swift string literal.
    private func quoted(_ text: String) -> String {
        "\"\(text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
    }
}
