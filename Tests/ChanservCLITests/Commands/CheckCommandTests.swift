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

    @Test(arguments: [
        "", "serve", "post", "check", "router", "mesh", "status", "requests", "cancel", "reload", "drain", "enable",
        "plugin", "version", "certificates new", "certificates show",
        "plugin new", "plugin include-dir", "plugin test", "plugin pin", "bench", "bench connect", "bench heavy",
        "bench flood", "bench mixed", "bench idle",
    ])
    func `help pages fit a terminal of 60 columns`(command: String) async throws {
        let arguments = command.split(separator: " ").map(String.init) + ["--help"]
        let exit = try await ChildProcess(
            "/usr/bin/env", ["COLUMNS=60", ChanservCommand.buildFolder + "/chanserv"] + arguments
        ).exit()
        #expect(exit.code == 0)
        #expect(exit.lines.filter { $0.count > 60 } == [])
        #expect(!exit.text.contains("<->"))
    }

    @Test(
        arguments: [
            (["serv"], "unknown command 'serv'; did you mean 'serve'?", "chanserv"),
            (["help", "pots"], "unknown command 'pots'; did you mean 'post'?", "chanserv"),
            (["plugin", "tset"], "unknown command 'tset'; did you mean 'test'?", "chanserv plugin"),
            (["bench", "conect"], "unknown command 'conect'; did you mean 'connect'?", "chanserv bench"),
            (
                ["stop"], "unknown command 'stop': a host stops with SIGTERM; 'chanserv status' shows its process id",
                "chanserv"
            ),
            (["post", "--bdy", "x"], "unknown option '--bdy'; did you mean '--body'?", "chanserv post"),
            (["reload", "--confg=x"], "unknown option '--confg'; did you mean '--config'?", "chanserv reload"),
            (["post"], "missing expected argument '<vaddr>'", "chanserv post"),
            (
                ["post", "echo", "--join", "a:1", "b:2"],
                "unexpected argument 'b:2': give each node with its own --join", "chanserv post"
            ),
            (
                ["bench", "connect", "--join", "a:1", "b:2"],
                "unexpected argument 'b:2': give each node with its own --join", "chanserv bench connect"
            ),
            (["check", "x"], "unexpected argument 'x': give the configuration file with --config", "chanserv check"),
            (["serve", "x"], "unexpected argument 'x': give the configuration file with --config", "chanserv serve"),
            (["post", "x", "--timeout", "0"], "--timeout: the timeout must be more than 0", "chanserv post"),
            (["mesh", "--timeout", "-1s"], "--timeout: '-1s' is negative", "chanserv mesh"),
            (
                ["status", "--timeout", "1.5s"],
                "--timeout: '1.5s' has a fraction (whole numbers only: write 1s500ms)", "chanserv status"
            ),
            (["post", "x", "--join", ":5"], "--join: ':5' has no host: write 127.0.0.1:5", "chanserv post"),
            (["post", "x", "--join", "a:0"], "--join: '0' is not a port (1 to 65535)", "chanserv post"),
            (
                ["post", "x", "--join", "http://a:1/"], "--join: 'http://a:1/' is a URL: write a:1", "chanserv post"
            ),
            (
                ["post", "x", "--join", "a:1,b:2"],
                "--join: 'a:1,b:2' has several addresses: give each node with its own --join", "chanserv post"
            ),
        ] as [([String], String, String)])
    func `a wrong command line is explained in one line and names the help page`(
        arguments: [String], message: String, command: String
    ) async throws {
        let exit = try await ChanservCommand.run(arguments)
        #expect(exit.code == 64)
        #expect(exit.errors == "chanserv: \(message)\nsee '\(command) --help'\n")
        #expect(exit.text == "")
    }

    @Test func `an address of all hosts is an error of check and serve`() async throws {
        let all = TestHost.samples.replacingOccurrences(of: "127.0.0.1:0", with: "'*:29501'")
        try await TestHost.withFolder(all) { folder in
            for command in ["check", "serve"] {
                let exit = try await ChanservCommand.run(command, "-c", folder + "/chanserv.yaml")
                #expect(exit.code == 65)
                #expect(
                    exit.errors.contains(
                        "chanserv.yaml:2:11: expected an address such as 127.0.0.1:5555: '*' is not a host: "
                            + "write 0.0.0.0 for all IPv4 addresses or [::] for all"))
            }
        }
    }

    @Test(arguments: ["warn", "err"])
    func `the short names of log levels are accepted`(level: String) async throws {
        let exit = try await ChanservCommand.run("serve", "--log-level", level, "--config", "/nonexistent/c.yaml")
        #expect(exit.code == 65)
    }

    @Test func `an error without a place has the prefix of the command`() async throws {
        let exit = try await ChanservCommand.run("check", "--config", "/nonexistent/c.yaml")
        #expect(exit.errors == "chanserv: /nonexistent/c.yaml: cannot be read: No such file or directory\n")
    }

    @Test(arguments: [["check"], ["plugin", "include-dir"], ["plugin", "pin", "libEcho.so"], ["--help"]])
    func `a closed standard output ends a command with 141 and without a message`(arguments: [String]) async throws {
        try await TestHost.withFolder { folder in
            let command = ([ChanservCommand.buildFolder + "/chanserv"] + arguments).map { "'\($0)'" }
            let script = """
                trap '' PIPE
                { \(command.joined(separator: " ")) 2>errors; echo $? >code; } | true
                """
            // The reader may be faster or slower than the command, so that the write can succeed.
            for _ in 0..<20 {
                _ = try await ChildProcess("/bin/sh", ["-c", script], folder: folder).exit()
                let code = try String(contentsOfFile: folder + "/code", encoding: .utf8)
                #expect(try String(contentsOfFile: folder + "/errors", encoding: .utf8) == "")
                #expect(["0\n", "141\n"].contains(code))
            }
        }
    }

    @Test func `a wrong command line is an error with a message`() async throws {
        for arguments in [["nonsense"], ["check", "extra"], ["serve", "--prot", "1"]] {
            let exit = try await ChanservCommand.run(arguments)
            #expect(exit.code == 64)
            #expect(exit.errors.hasPrefix("chanserv: "))
        }
    }
}
