import ChanservCLI
import Foundation
import Testing

/// The build tool `EmbedFiles` compiles the files into the command unchanged.
@Suite struct EmbeddedFilesTests {
    private static let root = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../..").standardized.path

    @Test(arguments: [
        ("templates", "Sources/ChanservCLI/Plugin/Templates", ".template"),
        ("include", "Sources/CChanservPlugin/include", ""),
        ("sdkC", "Sources/CChanservPlugin", ".c"),
        ("sdk", "Sources/ChanservPlugin", ".swift"),
    ]) func `the command contains the files of the repository`(
        name: String, folder: String, suffix: String
    ) throws {
        let embedded = [
            "templates": EmbeddedFiles.templates, "include": EmbeddedFiles.include, "sdkC": EmbeddedFiles.sdkC,
            "sdk": EmbeddedFiles.sdk,
        ]
        let path = "\(Self.root)/\(folder)"
        var files: [String: String] = [:]
        for file in try FileManager.default.subpathsOfDirectory(atPath: path) where file.hasSuffix(suffix) {
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: "\(path)/\(file)", isDirectory: &isFolder), !isFolder.boolValue
            else { continue }
            files[suffix == ".template" ? String(file.dropLast(suffix.count)) : file] = try String(
                contentsOfFile: "\(path)/\(file)", encoding: .utf8)
        }
        #expect(!files.isEmpty)
        #expect(embedded[name] == files)
    }
}
