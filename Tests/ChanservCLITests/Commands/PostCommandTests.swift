import Chanserv
import Foundation
import NIOCore
import TestSupport
import Testing

/// Runs `chanserv post` against a server in the test process.
@Suite struct PostCommandTests {
    @Test func `text output shows headers and frames with their source`() async throws {
        try await TestServer.serving({ _ in
            SourceList([Source(header: "head", frames: ["one", "two\n"]), Source(header: "", frames: ["three\nfour"])])
        }) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address)
            #expect(exit.code == 0)
            #expect(exit.errors == "")
            // Only the order within a source is defined.
            #expect(exit.lines.filter { $0.hasPrefix("[0]") } == ["[0] header: head", "[0] one", "[0] two"])
            #expect(exit.lines.filter { $0.hasPrefix("[1]") } == ["[1] three", "[1] four"])
        }
    }

    @Test func `JSON output has one object per event`() async throws {
        try await TestServer.serving({ _ in
            SourceList([Source(header: "h", frames: [ByteBuffer(string: "a\"b"), ByteBuffer(bytes: [0xFF, 0])])])
        }) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address, "--output", "json")
            #expect(exit.code == 0)
            #expect(
                exit.lines == [
                    #"{"source":0,"header":"h"}"#, #"{"source":0,"frame":"a\"b"}"#,
                    #"{"source":0,"frame_base64":"/wA="}"#, #"{"source":0,"end":"ok"}"#,
                ])
        }
    }

    @Test func `raw output is the bytes of the frames`() async throws {
        let bytes = (0...255).map { UInt8($0) }
        try await TestServer.serving({ _ in SourceList([Source(header: "h", frames: [bytes, [], bytes])]) }) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address, "--output", "raw")
            #expect(exit.code == 0)
            #expect(exit.output == Data(bytes + bytes))
        }
    }

    @Test func `the body comes from the command line, a file or standard input`() async throws {
        try await withTemporaryFolder { folder in
            try "from a file".write(toFile: folder + "/body", atomically: true, encoding: .utf8)
            try await TestServer.serving(Self.echo) { server in
                let post = ["post", "test", "--join", server.address, "--output", "raw"]
                for (arguments, expected) in [
                    ([], ""), (["--body", "from here"], "from here"),
                    (["--body-file", folder + "/body"], "from a file"),
                    (["-"], "piped"), (["--body-file", "-"], "piped"),
                ] {
                    let exit = try await ChanservCommand.run(post + arguments, input: "piped")
                    #expect(exit.text == expected)
                    #expect(exit.code == 0)
                }
                let missing = try await ChanservCommand.run(post + ["--body-file", folder + "/none"])
                #expect(missing.code == 66)
                #expect(missing.errors == "chanserv: cannot open '\(folder)/none': No such file or directory\n")
            }
        }
    }

    @Test func `a failed source is reported, and the other sources are complete`() async throws {
        try await TestServer.serving({ _ in
            SourceList([
                Source(header: "bad", frames: Failing(frames: ["before"])), Source(header: "good", frames: ["whole"]),
            ])
        }) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address, "--output", "json")
            #expect(exit.code == 1)
            #expect(exit.lines.contains(#"{"source":0,"frame":"before"}"#))
            let end = try #require(exit.lines.first { $0.hasPrefix(#"{"source":0,"end""#) })
            #expect(end.hasPrefix(#"{"source":0,"end":"error","message":""#))
            #expect(end.contains("the disk is on fire"))
            #expect(exit.lines.contains(#"{"source":1,"frame":"whole"}"#))
            #expect(exit.lines.contains(#"{"source":1,"end":"ok"}"#))
            #expect(exit.errors.hasPrefix("chanserv: source 0: "))
            #expect(exit.errors.contains("the disk is on fire"))
        }
    }

    @Test func `a refused request is reported`() async throws {
        try await TestServer.serving({ _ in throw OnFire() }) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address, "--output", "json")
            #expect(exit.code == 1)
            #expect(exit.errors.hasPrefix("chanserv: test: "))
            #expect(exit.errors.contains("the disk is on fire"))
            #expect(exit.lines.count == 1)
            #expect(exit.lines.first?.hasPrefix(#"{"end":"error","message":""#) == true)
        }
    }

    @Test func `control characters in an error message are escaped`() async throws {
        try await TestServer.serving({ _ in throw ControlCharacters() }) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address)
            #expect(exit.code == 1)
            #expect(exit.errors.contains(#"\u{1B}[31m\nforged"#))
            #expect(exit.errors.unicodeScalars.count { $0 == "\n" || $0 == "\u{1B}" } == 1, "\(exit.errors)")
        }
    }

    @Test func `an address without an offer ends the command with 69`() async throws {
        try await TestServer.serving(Self.echo) { server in
            let exit = try await ChanservCommand.run("post", "other", "--join", server.address, "--timeout", "300ms")
            #expect(exit.code == 69)
            #expect(exit.errors == "chanserv: no node offers 'other' (waited 300ms)\n")
        }
    }

    @Test func `the command fails with 69 only if no node can be joined`() async throws {
        let none = try await ChanservCommand.run("post", "test", "--join", "127.0.0.1:1", "--timeout", "300ms")
        #expect(none.code == 69)
        #expect(none.errors == "chanserv: cannot join 127.0.0.1:1: Connection refused\n")
        try await TestServer.serving(Self.echo) { server in
            let one = try await ChanservCommand.run(
                "post", "test", "--join", "127.0.0.1:1", "--join", server.address, "--body", "x")
            #expect(one.code == 0)
            #expect(one.text == "[0] x\n")
            #expect(one.errors == "chanserv: cannot join 127.0.0.1:1: Connection refused\n")
        }
    }

    @Test func `all nodes of --join are joined`() async throws {
        try await TestServer.serving(environment: "one", Self.echo) { one in
            try await TestServer.serving(environment: "two", Self.echo) { two in
                for environment in ["one", "two"] {
                    let exit = try await ChanservCommand.run(
                        "post", "test", "--body", "x", "--environment", environment, "--timeout", "60s",
                        "--join", one.address, "--join", two.address)
                    #expect(exit.text == "[0] x\n", "\(exit.errors)")
                }
            }
        }
    }

    @Test func `the environment is part of the address`() async throws {
        try await TestServer.serving(environment: "staging", Self.echo) { server in
            let post = ["post", "test", "--join", server.address, "--body", "x", "--timeout"]
            let inside = try await ChanservCommand.run(post + ["60s", "--environment", "staging"])
            #expect(inside.text == "[0] x\n")
            #expect(try await ChanservCommand.run(post + ["300ms"]).code == 69)
        }
    }

    @Test func `the server receives the tags and the deadline`() async throws {
        try await TestServer.serving({ request in
            let left = request.context.deadline.map { ContinuousClock.now.duration(to: $0) }
            let isInTime = left.map { $0 > .seconds(3_000) && $0 <= .seconds(3_600) }
            let tags = [RequestTag.meta, .bucket].map { request.tags[$0] ?? "none" }
            return SourceList([
                Source(header: "", frames: [tags + [isInTime.map { "\($0)" } ?? "none"]].map { "\($0)" })
            ])
        }) { server in
            let post = ["post", "test", "--join", server.address]
            let none = try await ChanservCommand.run(post)
            #expect(none.text == #"[0] ["none", "none", "none"]"# + "\n", "\(none.errors)")
            let all = try await ChanservCommand.run(
                post + ["--meta", "for the \u{1F4C8} report", "--bucket", "b", "--deadline", "1h"])
            #expect(all.text == "[0] [\"for the \u{1F4C8} report\", \"b\", \"true\"]\n", "\(all.errors)")
        }
    }

    @Test func `tags that are too long are refused`() async throws {
        try await TestServer.serving(Self.echo) { server in
            let exit = try await ChanservCommand.run(
                "post", "test", "--join", server.address, "--meta", String(repeating: "x", count: 5_000))
            #expect(exit.code == 1)
            #expect(exit.text == "")
            #expect(exit.errors.contains("limit reached"), "\(exit.errors)")
        }
    }

    @Test func `a request fails at its deadline, after the frames received before it`() async throws {
        try await TestServer.serving(Self.endless) { server in
            let exit = try await ChanservCommand.run(
                "post", "test", "--join", server.address, "--deadline", "300ms", "--output", "raw")
            #expect(exit.code == 1)
            #expect(exit.errors.contains("deadline exceeded: the deadline of the request"), "\(exit.errors)")
            #expect(!exit.output.isEmpty)
        }
    }

    @Test func `saved files have exactly the bytes of the sources`() async throws {
        try await withTemporaryFolder { folder in
            let count = 3_000
            try await TestServer.serving({ _ in
                SourceList(
                    (0..<count).map { index in
                        let bytes = TestServer.contents(index)
                        let half = bytes.count / 2
                        return Source(
                            header: #"{"path":"dir\#(index % 7)/file\#(index)"}"#,
                            frames: [Array(bytes[..<half]), [], Array(bytes[half...])])
                    })
            }) { server in
                let exit = try await ChanservCommand.run(
                    "post", "test", "--join", server.address, "--save", folder + "/copy")
                #expect(exit.errors == "")
                #expect(exit.code == 0)
                for index in 0..<count {
                    let path = "dir\(index % 7)/file\(index)"
                    let bytes = try Data(contentsOf: URL(fileURLWithPath: folder + "/copy/" + path))
                    #expect(bytes == Data(TestServer.contents(index)), "\(path)")
                }
                let all = try FileManager.default.subpathsOfDirectory(atPath: folder + "/copy")
                #expect(all.count == count + 7)
            }
        }
    }

    @Test func `a failed source leaves only a partial file`() async throws {
        try await withTemporaryFolder { folder in
            try await TestServer.serving({ _ in
                SourceList([Source(header: #"{"path":"a"}"#, frames: Failing(frames: ["half"]))])
            }) { server in
                let exit = try await ChanservCommand.run("post", "test", "--join", server.address, "--save", folder)
                #expect(exit.code == 1)
                #expect(exit.text == "[0] header: {\"path\":\"a\"}\n")
                #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["a.partial"])
            }
        }
    }

    @Test func `a signal ends an endless request`() async throws {
        try await TestServer.serving(Self.endless) { server in
            let post = try ChanservCommand.start("post", "test", "--join", server.address)
            defer { post.end() }
            _ = try await post.outputBytes(100)
            post.kill(SIGINT)
            let exit = try await post.exit()
            #expect(exit.code == 130)
            #expect(exit.errors == "chanserv: interrupted\n")
        }
    }

    @Test func `the command exits with 141 when the reader closes standard output`() async throws {
        try await TestServer.serving(Self.endless) { server in
            let post = try ChanservCommand.start("post", "test", "--join", server.address, keepsOutput: false)
            defer { post.end() }
            let exit = try await post.exit()
            #expect(exit.code == 141)
            #expect(exit.errors == "")
        }
    }

    @Test func `an address that no node offers is reported once and with a suggestion`() async throws {
        try await TestServer.serving(Self.echo) { server in
            let exit = try await ChanservCommand.run("post", "tets", "--join", server.address, "--timeout", "1s")
            #expect(exit.code == 69)
            #expect(exit.errors == "chanserv: no node offers 'tets' (waited 1s); did you mean 'test'?\n")
            let json = try await ChanservCommand.run(
                "post", "tets", "--join", server.address, "--timeout", "1s", "--output", "json")
            #expect(
                json.text
                    == #"{"end":"error","message":"no node offers 'tets' (waited 1s); did you mean 'test'?"}"# + "\n")
        }
        try await TestServer.serving(environment: "staging", Self.echo) { server in
            let exit = try await ChanservCommand.run("post", "test", "--join", server.address, "--timeout", "1s")
            #expect(
                exit.errors
                    == "chanserv: no node offers 'test' (waited 1s); it is offered in the environment 'staging': "
                    + "give it with --environment\n")
        }
    }

    @Test func `a body that cannot be read ends the command with 66`() async throws {
        let exit = try await ChanservCommand.run("post", "x", "--body-file", "/nonexistent/body")
        #expect(exit.code == 66)
        #expect(exit.errors == "chanserv: cannot open '/nonexistent/body': No such file or directory\n")
    }

    @Test func `a terminal shows what a request waits for and no progress line after an error`() async throws {
        let terminal = try PseudoTerminal()
        try await TestServer.serving(Self.echo) { server in
            let post = try ChanservCommand.start(
                "post", "other", "--join", server.address, "--timeout", "1s", errors: terminal.device)
            defer { post.end() }
            #expect(try await post.exit().code == 69)
            let shown = try terminal.written()
            #expect(shown.contains("waiting for a host that offers 'other'"))
            #expect(!shown.contains("sources:"))
            #expect(shown.hasSuffix("no node offers 'other' (waited 1s)\r\n"))
        }
    }

    @Test func `a terminal shows a progress line`() async throws {
        let terminal = try PseudoTerminal()
        try await TestServer.serving({ _ in SourceList([Source(header: "", frames: ["12345", "6789\n"])]) }) { server in
            let post = try ChanservCommand.start("post", "test", "--join", server.address, errors: terminal.device)
            defer { post.end() }
            #expect(try await post.exit().text == "[0] 12345\n[0] 6789\n")
            let shown = try terminal.written()
            #expect(shown.contains("sources: 0 open, 1 done  frames: 2  bytes: 10 B  rate: "))
            #expect(shown.hasSuffix("\r\n"))
        }
    }

    @Test(arguments: [
        ["post"], ["post", ""], ["post", "x", "y"], ["post", "x", "-", "--body", "z"],
        ["post", "x", "--body", "a", "--body-file", "b"], ["post", "x", "--output", "xml"],
        ["post", "x", "--timeout", "5"], ["post", "x", "--deadline", "5"], ["post", "x", "--deadline", "0"],
        ["post", "x", "--deadline", "1177h"], ["post", "x", "--max-time", "0"], ["post", "x", "--idle-timeout", "5"],
        ["post", "x", "--retry", "-1"],
        ["post", "x", "--join", "nowhere"], ["post", "x", "--output", "raw", "--save", "d"],
        ["post", "x", "--nonsense"],
    ]) func `a wrong command line is an error that names the help page`(arguments: [String]) async throws {
        let exit = try await ChanservCommand.run(arguments)
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: "))
        #expect(exit.errors.contains("\nsee 'chanserv post"))
        #expect(exit.errors.hasSuffix(" --help'\n"))
        #expect(exit.text == "")
    }

    private static let echo: SourceFunc = { request in SourceList([Source(header: "", frames: [request.body])]) }

    private static let endless: SourceFunc = { _ in SourceList([Source(header: "", frames: Endless())]) }

    private struct OnFire: Error, CustomStringConvertible { let description = "the disk is on fire" }
    /// An error whose message has control characters.
    private struct ControlCharacters: Error, CustomStringConvertible { let description = "\u{1B}[31m\nforged" }

    /// A sequence of some frames that then fails.
    private struct Failing: AsyncSequence, Sendable {
        var frames: [String]

        func makeAsyncIterator() -> Iterator { Iterator(rest: frames[...]) }

        struct Iterator: AsyncIteratorProtocol {
            var rest: ArraySlice<String>

            mutating func next() async throws -> String? {
                guard let frame = rest.popFirst() else { throw OnFire() }
                return frame
            }
        }
    }

    /// An endless sequence of frames.
    private struct Endless: Sequence, IteratorProtocol, Sendable {
        mutating func next() -> String? { "again and again" }
    }
}
