import CChanservPlugin
import Foundation
import Testing

/// No file outside the root can be reached, with openat2 and with the fallback for kernels without it.
@Suite struct FilesBeneathTests {
    /// The plugin Files, built for a kernel without openat2.
    // Safe to share: it is created once and never changes.
    nonisolated(unsafe) static let withoutOpenat2 = Result { try build("FILES_WITHOUT_OPENAT2") }
    /// The plugin Files, built so that the limit of inotify watches is reached.
    // Safe to share: it is created once and never changes.
    nonisolated(unsafe) static let withoutWatches = Result { try build("FILES_WITHOUT_WATCHES") }

    private static func build(_ definition: String) throws -> chanserv_plugin {
        let project = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folders = ["Plugins/Files", "Plugins/Support"].map { project.appending(path: $0) }
        let sources = try folders.flatMap { folder in
            try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".c") }
                .map { folder.appending(path: $0).path }
        }
        let library = FileManager.default.temporaryDirectory.appending(path: "lib\(definition)-\(getpid()).so")
        defer { unlink(library.path) }
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments =
            [
                "clang", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-D\(definition)", "-o", library.path,
                "-I", project.appending(path: "Sources/CChanservPlugin/include").path,
            ] + folders.flatMap { ["-I", $0.path] } + sources + ["-lz", "-lzstd"]
        try compiler.run()
        compiler.waitUntilExit()
        guard compiler.terminationStatus == 0 else { throw Failure("clang failed") }
        return try descriptor(of: library)
    }

    enum Kernel: CaseIterable {
        case withOpenat2, withoutOpenat2

        func instance(_ folder: Folder, _ configuration: [String: ConfigurationValue] = [:]) throws -> Instance {
            let plugin =
                switch self {
                case .withOpenat2: try descriptor(ofProduct: "Files")
                case .withoutOpenat2: try FilesBeneathTests.withoutOpenat2.get()
                }
            return try Instance(plugin, configuration.merging(["root": .string(folder.path)]) { given, _ in given })
        }
    }

    @Test(arguments: Kernel.allCases) func `symbolic links are not served`(kernel: Kernel) async throws {
        try await onThread {
            let outside = try Folder()
            try outside.write("secret", "secret")
            let folder = try Folder()
            try folder.write("inside/file", "fine")
            try folder.link("link", to: outside.file("secret"))
            try folder.link("relative", to: "../" + URL(filePath: outside.path).lastPathComponent + "/secret")
            try folder.link("away", to: outside.path)
            try folder.link("within", to: "inside")
            try folder.link("loop", to: ".")
            let request = "**\nlink\nrelative\naway/secret\naway/*\nwithin/file\nloop/inside/file\nloop/*/file"
            let sources = try kernel.instance(folder).sources(request)
            #expect(try paths(sources) == ["inside/file"])
            #expect(try text(sources[0].frames()) == ["fine"])
        }
    }

    @Test(arguments: Kernel.allCases) func `the root may be a symbolic link`(kernel: Kernel) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("inside/file")
            try folder.link("root", to: "inside")
            let instance = try kernel.instance(folder, ["root": .string(folder.file("root"))])
            #expect(try paths(instance.sources("*")) == ["file"])
        }
    }

    /// A file, or a folder above it, is replaced by a link after it was found and before it is opened.
    @Test(arguments: Kernel.allCases) func `a link that replaces a file or folder is not followed`(kernel: Kernel)
        async throws
    {
        try await onThread {
            let outside = try Folder()
            try outside.write("file", "secret")
            let folder = try Folder()
            try folder.write("a/file", "fine")
            try folder.write("b/file", "fine")
            try folder.write("b2/file", "fine")
            let sources = try kernel.instance(folder).sources("*/file")
            #expect(sources.count == 3)
            try folder.remove("a/file")
            try folder.link("a/file", to: outside.file("file"))
            try folder.rename("b", to: "c")
            try folder.link("b", to: outside.path)
            try folder.rename("b2", to: "c2")
            try folder.link("b2", to: "c2")
            for source in sources {
                let (frames, last) = try source.collect()
                #expect(frames == [])
                #expect(last.status == notFound)
            }
        }
    }

    @Test(arguments: Kernel.allCases) func `a fifo that replaces a file does not block`(kernel: Kernel) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("file", "fine")
            let sources = try kernel.instance(folder).sources("file")
            try folder.remove("file")
            try folder.check(mkfifo(folder.file("file"), 0o644))
            #expect(try sources[0].collect().last.status == notFound)
        }
    }

    @Test(arguments: Kernel.allCases) func `files in deep folders are read`(kernel: Kernel) async throws {
        try await onThread {
            let folder = try Folder()
            let deep = (0..<100).map { "d\($0)" }.joined(separator: "/") + "/file"
            try folder.write(deep, "deep")
            let sources = try kernel.instance(folder).sources("**/file")
            #expect(try paths(sources) == [deep])
            #expect(try text(sources[0].frames()) == ["deep"])
        }
    }
}
