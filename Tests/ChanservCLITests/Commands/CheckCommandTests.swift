import Foundation
import TestSupport
import Testing

/// Tests `chanserv check`, and the help and version of the command.
@Suite struct CheckCommandTests {
    @Test func `a valid configuration passes`() async throws {
        try await TestHost.withFolder { folder in
            let exit = try await ChanservCommand.run("check", folder: folder)
            #expect(exit.text == "chanserv.yaml is fine\n")
            #expect(exit.errors == "")
            #expect(exit.code == 0)
        }
    }

    @Test func `each problem is one line with file, line and column`() async throws {
        let configuration = """
            node: {listen: 127.0.0.1}
            plugins:
              echo: {path: libEcho.so, pth: x}
              none: {path: libNone.so}
            routes:
              - {vaddr: echo, plugin: ecco}
            """
        try await TestHost.withFolder(configuration) { folder in
            let exit = try await ChanservCommand.run("check", folder: folder)
            #expect(exit.code == 65)
            #expect(exit.text == "")
            let places = exit.errors.split(separator: "\n").map { $0.split(separator: " ")[0] }
            #expect(
                places == ["chanserv.yaml:1:16:", "chanserv.yaml:3:28:", "chanserv.yaml:4:16:", "chanserv.yaml:6:27:"])
        }
    }

    @Test func `an option that a plugin rejects is reported`() async throws {
        let configuration = TestHost.samples.replacingOccurrences(of: "root: .", with: "root: ., unit: pages")
        try await TestHost.withFolder(configuration) { folder in
            let exit = try await ChanservCommand.run("check", folder: folder)
            #expect(exit.code == 65)
            #expect(exit.errors.contains("pages"))
        }
    }

    @Test func `a file that is not a library is reported`() async throws {
        try await TestHost.withFolder { folder in
            try "not a library".write(toFile: folder + "/libEcho.so", atomically: false, encoding: .utf8)
            let exit = try await ChanservCommand.run("check", folder: folder)
            #expect(exit.code == 65)
            #expect(exit.errors.hasPrefix("chanserv.yaml:4:16: "))
        }
    }

    @Test func `a missing configuration file is an error`() async throws {
        let exit = try await ChanservCommand.run("check", "--config", "/nonexistent/chanserv.yaml")
        #expect(exit.code == 65)
        #expect(exit.errors.contains("/nonexistent/chanserv.yaml"))
    }

    @Test func `help and version are printed on standard output`() async throws {
        for arguments in [["--help"], ["help", "serve"], ["post", "--help"], ["check", "-h"]] {
            let exit = try await ChanservCommand.run(arguments)
            #expect(exit.code == 0)
            #expect(exit.text.contains("USAGE: chanserv"))
            #expect(exit.errors == "")
        }
        #expect(try await ChanservCommand.run("--version").text.contains(#/^\d+\.\d+\.\d+\n$/#))
    }

    @Test func `a wrong command line is an error with a message`() async throws {
        for arguments in [["nonsense"], ["check", "extra"], ["serve", "--prot", "1"]] {
            let exit = try await ChanservCommand.run(arguments)
            #expect(exit.code == 64)
            #expect(exit.errors.hasPrefix("chanserv: "))
        }
    }
}
