import Foundation
import HostConfiguration
import Testing

/// The `chanserv.yaml` at the root of the repository.
@Suite struct ShippedConfigurationTests {
    private let folder = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private func read(_ name: String) throws -> String {
        try String(contentsOf: folder.appending(path: name), encoding: .utf8)
    }

    @Test func `the shipped file routes the three sample plugins on the default address`() throws {
        let configuration = try HostConfiguration.parse(try read("chanserv.yaml"), file: "chanserv.yaml", folder: "/x")
        #expect(configuration.warnings == [])
        #expect(configuration.node.control == "/x/chanserv.sock")
        var node = configuration.node
        node.control = nil
        #expect(node == HostConfiguration.Node())
        #expect(configuration.dropIn?.folder == "/x/plugins.d")
        #expect(configuration.routes.map(\.vAddr) == ["echo", "files", "ticker"])
        #expect(configuration.routes.map(\.plugin) == ["echo", "files", "ticker"])
        #expect(
            configuration.plugins.map(\.path)
                == ["/x/Plugins/libEcho.so", "/x/Plugins/libFiles.so", "/x/Plugins/libTicker.so"])
        #expect(try configuration.routes[1].configuration.path(at: "root") == "/x/.")
        #expect(try configuration.routes[1].configuration.string(at: "unit") == "lines")
    }
}

@Suite struct HostConfigurationFileTests {
    /// Runs `body` with a new folder and removes it afterwards.
    private func withFolder<Value>(_ body: (URL) throws -> Value) throws -> Value {
        let folder = FileManager.default.temporaryDirectory.appending(path: "chanserv-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        let result = Result { try body(folder) }
        try FileManager.default.removeItem(at: folder)
        return try result.get()
    }

    private func errors(_ file: String) -> [String] {
        do {
            _ = try HostConfiguration.read(file)
            return []
        } catch {
            return error.errors.map(\.description)
        }
    }

    @Test func `plugin files are looked up relative to the configuration file`() throws {
        try withFolder { folder in
            let file = folder.appending(path: "c.yaml").path()
            let text = """
                plugins:
                  there: {path: a.so}
                  gone: {path: b.so}
                  link: {path: c.so}
                  folder: {path: d.so}
                routes: []
                """
            try text.write(toFile: file, atomically: false, encoding: .utf8)
            try "x".write(to: folder.appending(path: "a.so"), atomically: false, encoding: .utf8)
            try FileManager.default.createSymbolicLink(
                at: folder.appending(path: "c.so"), withDestinationURL: folder.appending(path: "a.so"))
            try FileManager.default.createDirectory(
                at: folder.appending(path: "d.so"), withIntermediateDirectories: false)
            let lines = errors(file)
            #expect(lines.count == 3)
            #expect(lines[0].hasPrefix("\(file):3:16: the plugin's file '"))
            #expect(lines[0].hasSuffix(" does not exist"))
            #expect(lines[1].hasPrefix("\(file):4:16: "))
            let target = folder.appending(path: "a.so").path
            #expect(
                lines[1].hasSuffix(
                    " is a symbolic link, which is not followed: put the library itself there, or set 'path' to '\(target)'"
                ),
                "\(lines[1])")
            #expect(lines[2].hasPrefix("\(file):5:18: "))
            #expect(lines[2].hasSuffix(" is not a regular file"))

            try "plugins: {there: {path: a.so}}".write(toFile: file, atomically: false, encoding: .utf8)
            let configuration = try HostConfiguration.read(file)
            #expect(configuration.plugins[0].path == "\(configuration.folder)/a.so")
            #expect(configuration.folder == folder.path().trimmingSuffix("/"))
        }
    }

    @Test func `a configuration file that cannot be read is refused with the reason`() throws {
        try withFolder { folder in
            let path = folder.path().trimmingSuffix("/")
            #expect(errors("\(path)/none.yaml") == ["\(path)/none.yaml: cannot be read: No such file or directory"])
            #expect(errors(path) == ["\(path): cannot be read: Is a directory"])
            #expect(errors("a\0b").first?.hasSuffix("the file name contains a zero byte") == true)
            let large = folder.appending(path: "large.yaml")
            try Data(repeating: UInt8(ascii: "#"), count: 3 << 20).write(to: large)
            #expect(errors(large.path()) == ["\(large.path()): the file is larger than 1MiB"])
        }
    }
}

extension String {
    fileprivate func trimmingSuffix(_ suffix: String) -> String {
        hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
    }
}
