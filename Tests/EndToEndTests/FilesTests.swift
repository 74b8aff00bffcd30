import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// The files plugin and `chanserv post --save`, with a folder of many files.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct FilesOfATree {
        /// The folder of this package.
        private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path

        private static func configuration(unit: String) -> String {
            """
            node: {listen: 127.0.0.1:0}
            plugins:
              files: {path: libFiles.so, config: {root: "\(root)", unit: \(unit)}}
            routes:
              - {vaddr: files, plugin: files}
              - {vaddr: packed, plugin: files, compression: true}
            """
        }

        @Test(arguments: [("lines", "files"), ("chunks", "packed")])
        func `post saves every file of a tree unchanged`(unit: String, vAddr: String) async throws {
            try await ServedHost.serving(
                Self.configuration(unit: unit), prepare: { try ServedHost.copyBuilt("libFiles.so", to: $0) }
            ) { host in
                let saved = host.folder.file("saved")
                let post = try await ChanservCommand.run(
                    "post", vAddr, "--join", host.address, "--body", "Sources/**/*.swift", "--save", saved)
                #expect(post.code == 0, "\(post.errors)")

                let wanted = try Self.swiftFiles(below: Self.root + "/Sources")
                #expect(wanted.count > 100)
                #expect(try Self.swiftFiles(below: saved + "/Sources") == wanted)
                for path in wanted {
                    let original = try Data(contentsOf: URL(fileURLWithPath: "\(Self.root)/Sources/\(path)"))
                    let copy = try Data(contentsOf: URL(fileURLWithPath: "\(saved)/Sources/\(path)"))
                    #expect(copy == original, "\(path)")
                }
            }
        }

        private static func swiftFiles(below folder: String) throws -> [String] {
            try FileManager.default.subpathsOfDirectory(atPath: folder).filter { $0.hasSuffix(".swift") }.sorted()
        }
    }
}
