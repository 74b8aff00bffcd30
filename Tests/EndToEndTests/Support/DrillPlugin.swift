import Chanserv
import Foundation
import NIOCore
import TestSupport
import Testing

/// The plugin in Plugins/drill.c. It is compiled once and written in any number of versions.
enum DrillPlugin {
    /// Writes the built library in this version to a path, as a new file.
    static func write(version: Int, to path: String) throws {
        try write(try bytes(version: version), to: path)
    }

    /// Writes a library that the host may load to a path, as a new file.
    static func write(_ bytes: Data, to path: String) throws {
        try bytes.write(to: URL(fileURLWithPath: path), options: .atomic)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    }

    /// The built library with the version `version`, at most 9,999.
    static func bytes(version: Int) throws -> Data {
        var library = try built.get()
        let mark = try #require(library.range(of: Data("DRILL-VERSION:0000".utf8)))
        library.replaceSubrange(mark.upperBound - 4..<mark.upperBound, with: Data(name(of: version).utf8))
        return library
    }

    /// The version as frames and reports print it.
    static func name(of version: Int) -> String {
        let digits = String(version)
        return String(repeating: "0", count: 4 - digits.count) + digits
    }

    /// Compiles the library with more compiler options.
    static func compile(options: [String] = []) throws -> Data {
        let folder = try TestFolder()
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Plugins")
        try CompiledPlugin.compile(
            String(contentsOf: sources.appendingPathComponent("drill.c"), encoding: .utf8), to: folder.file("drill.so"),
            options: ["-O1", "-I", sources.path] + options)
        return try Data(contentsOf: URL(fileURLWithPath: folder.file("drill.so")))
    }

    private static let built = Result { try compile() }
}

/// The counts of the plugin.
struct DrillReport {
    private let values: [Substring: Substring]

    init(_ text: String) {
        let pairs = text.split(separator: " ").map { $0.split(separator: "=") }
        values = Dictionary(uniqueKeysWithValues: pairs.map { ($0[0], $0[1]) })
    }

    /// The count with this name, e.g. `open_calls`; see drill.c.
    subscript(_ key: Substring) -> Int? { values[key].flatMap { Int($0) } }
}

/// A frame of `count` or `forever`.
struct NumberedFrame {
    let version: Int
    let index: Int

    init(_ frame: ReceivedFrame) throws {
        // The rest of the frame is blanks.
        let text = String(decoding: frame.bytes.readableBytesView.prefix(24), as: UTF8.self)
        let parts = text.split(separator: " ")
        try #require(parts.count == 2)
        version = try #require(Int(parts[0]))
        index = try #require(Int(parts[1]))
    }
}

/// Checks that the frames are those of the command `count`: of one version, in order and complete.
///
/// - Returns: the version.
func version(of frames: [ReceivedFrame], count: Int, size: Int) throws -> Int {
    let numbered = try frames.map(NumberedFrame.init)
    let version = try #require(numbered.first).version
    try #require(numbered.allSatisfy { $0.version == version })
    try #require(numbered.map(\.index) == Array(0..<count))
    try #require(frames.allSatisfy { $0.count >= size })
    return version
}
