import Chanserv
import Foundation
import NIOCore
import Synchronization
import TestSupport
import Testing

/// Time limits and repetitions of `chanserv post`.
@Suite struct PostLimitTests {
    // The first limit includes the start of the command, the second begins again with each frame.
    @Test(arguments: [["--max-time", "5s"], ["--idle-timeout", "5s"]])
    func `a silent source ends at the limit, after its frames`(limit: [String]) async throws {
        try await TestServer.serving({ _ in SourceList([Source(header: "h", frames: Silent(frames: ["one"]))]) }) {
            let exit = try await ChanservCommand.run(["post", "test", "--join", $0.address] + limit)
            #expect(exit.code == 1)
            #expect(exit.text == "[0] header: h\n[0] one\n")
            #expect(exit.errors.hasPrefix("chanserv: test: ") && exit.errors.hasSuffix("5s (\(limit[0]))\n"))
        }
    }

    @Test func `a request without a source ends at the limit with 69`() async throws {
        try await TestServer.serving({ _ in NoSource() }) { server in
            for limit in [["--max-time", "300ms"], ["--idle-timeout", "300ms"]] {
                let exit = try await ChanservCommand.run(
                    ["post", "test", "--join", server.address, "--output", "json"] + limit)
                #expect(exit.code == 69)
                #expect(exit.lines.count == 1 && exit.text.contains(#"{"end":"error","message":"#), "\(exit.text)")
            }
        }
    }

    @Test func `a frame that arrives slowly is not idle`() async throws {
        try await TestServer.serving({ _ in SourceList([Source(header: "", frames: Slow(count: 12))]) }) { server in
            let exit = try await ChanservCommand.run(
                "post", "test", "--join", server.address, "--output", "raw", "--idle-timeout", "4s")
            #expect(exit.code == 0, "\(exit.errors)")
            #expect(exit.text == String(repeating: "x", count: 12))
        }
    }

    @Test func `the limit of the whole command also ends a blocked output`() async throws {
        try await TestServer.serving({ _ in SourceList([Source(header: "", frames: Endless())]) }) { server in
            let (input, output) = try Self.pipe()
            let exit = try await ChildProcess(
                "/bin/sh",
                [
                    "-c", #""$0" post test --join "$1" --max-time 500ms --output raw >&2"#,
                    ChanservCommand.buildFolder + "/chanserv", server.address,
                ], errors: output
            ).exit()
            #expect(exit.code == 1)
            try output.close()
            try input.close()
        }
    }

    @Test func `a refused connection is tried again until a node listens`() async throws {
        let port = try Self.freePort()
        let post = try ChanservCommand.start(
            "post", "echo", "--join", "127.0.0.1:\(port)", "--body", "x", "--output", "raw", "--timeout", "60s")
        defer { post.end() }
        let configuration = TestHost.samples.replacingOccurrences(of: "127.0.0.1:0", with: "127.0.0.1:\(port)")
        try await TestHost.serving(configuration) { _ in
            let exit = try await post.exit()
            #expect(exit.text == "x", "\(exit.errors)")
            #expect(exit.errors == "")
        }
    }

    @Test func `a silent request is sent again as often as --retry allows`() async throws {
        let requests = Atomic(0)
        try await TestServer.serving({ request in
            guard requests.add(1, ordering: .relaxed).newValue > 2 else { return NoSource() }
            return SourceList([Source(header: "", frames: [request.body])])
        }) { server in
            let post = ["post", "test", "--join", server.address, "--body", "x", "--output", "raw"]
            let once = try await ChanservCommand.run(post + ["--idle-timeout", "300ms", "--retry", "1"])
            #expect(once.code == 69)
            #expect(once.errors == "chanserv: test: no byte arrived for 300ms (--idle-timeout)\n")
            #expect(requests.load(ordering: .relaxed) == 2)
            let again = try await ChanservCommand.run(post + ["--retry", "1"])
            #expect(again.text == "x")
        }
    }

    @Test func `a busy host is asked again`() async throws {
        let configuration = TestHost.samples.replacingOccurrences(
            of: "{vaddr: ticker, plugin: ticker}", with: "{vaddr: ticker, plugin: ticker, limits: {concurrent: 1}}")
        try await TestHost.serving(configuration) { host in
            let first = try ChanservCommand.start(
                "post", "ticker", "--join", host.address, "--body", "1 10ms 1000000")
            defer { first.end() }
            _ = try await first.outputLines(with: "tick 1", count: 1)
            let refused = try await host.post("ticker", "--body", "1 1ms 1")
            #expect(refused.code == 69)
            #expect(refused.errors.hasPrefix("chanserv: ticker: busy: ticker has reached its limit"))
            let second = try ChanservCommand.start(
                "post", "ticker", "--join", host.address, "--body", "1 1ms 1", "--retry", "1000")
            defer { second.end() }
            first.kill(SIGTERM)
            #expect(try await second.exit().code == 0)
        }
    }

    @Test func `a busy host refuses with one text and one exit code, also behind a router`() async throws {
        try await TestRouter.routing { router in
            let configuration = TestHost.samples(joining: router.address, role: "server").replacingOccurrences(
                of: "{vaddr: ticker, plugin: ticker}", with: "{vaddr: ticker, plugin: ticker, limits: {concurrent: 1}}")
            try await TestHost.serving(configuration) { host in
                let first = try ChanservCommand.start(
                    "post", "ticker", "--join", router.address, "--body", "1 10ms 1000000")
                defer { first.end() }
                _ = try await first.outputLines(with: "tick 1", count: 1)
                for address in [router.address, host.address] {
                    let exit = try await ChanservCommand.run("post", "ticker", "--join", address)
                    #expect(exit.code == 69)
                    #expect(
                        exit.errors == "chanserv: ticker: busy: ticker has reached its limit of 1 open requests\n")
                }
            }
        }
    }

    @Test func `behind a router another host answers for a busy one`() async throws {
        try await TestRouter.routing { router in
            let configuration = TestHost.samples(joining: router.address, role: "server").replacingOccurrences(
                of: "{vaddr: ticker, plugin: ticker}", with: "{vaddr: ticker, plugin: ticker, limits: {concurrent: 1}}")
            try await TestHost.serving(configuration) { _ in
                try await TestHost.serving(configuration) { _ in
                    let first = try ChanservCommand.start(
                        "post", "ticker", "--join", router.address, "--body", "1 10ms 1000000")
                    defer { first.end() }
                    _ = try await first.outputLines(with: "tick 1", count: 1)
                    for _ in 0..<6 {
                        let exit = try await ChanservCommand.run(
                            "post", "ticker", "--join", router.address, "--body", "1 1ms 1", "--timeout", "60s")
                        #expect(exit.code == 0, "\(exit.errors)")
                    }
                }
            }
        }
    }

    @Test func `a terminal says that an answer has no source`() async throws {
        let terminal = try PseudoTerminal()
        try await TestServer.serving({ _ in SourceList([Source]()) }) { server in
            let post = try ChanservCommand.start("post", "test", "--join", server.address, errors: terminal.device)
            defer { post.end() }
            #expect(try await post.exit().code == 0)
            #expect(try terminal.written().contains("0 sources: the answer is empty"))
        }
    }

    /// Returns a port on which nothing listens.
    private static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
            }
        }
        try #require(isBound)
        return Int(UInt16(bigEndian: address.sin_port))
    }

    /// A pipe that is not read.
    private static func pipe() throws -> (FileHandle, FileHandle) {
        var ends: [Int32] = [0, 0]
        try #require(Foundation.pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (
            FileHandle(fileDescriptor: ends[0], closeOnDealloc: true),
            FileHandle(fileDescriptor: ends[1], closeOnDealloc: true)
        )
    }

    /// Some frames, and then nothing until the task is cancelled.
    private struct Silent: AsyncSequence, Sendable {
        var frames: [String]

        func makeAsyncIterator() -> Iterator { Iterator(rest: frames[...]) }

        struct Iterator: AsyncIteratorProtocol {
            var rest: ArraySlice<String>

            mutating func next() async throws -> String? {
                if let frame = rest.popFirst() { return frame }
                try await Task.sleep(for: .seconds(3_600))
                return nil
            }
        }
    }

    private struct NoSource: AsyncSequence, Sendable {
        func makeAsyncIterator() -> Iterator { Iterator() }

        struct Iterator: AsyncIteratorProtocol {
            mutating func next() async throws -> Source? {
                try await Task.sleep(for: .seconds(3_600))
                return nil
            }
        }
    }

    /// Frames with a pause between them that is longer than the command's interval of observation.
    private struct Slow: AsyncSequence, Sendable {
        var count: Int

        func makeAsyncIterator() -> Iterator { Iterator(left: count) }

        struct Iterator: AsyncIteratorProtocol {
            var left: Int

            mutating func next() async throws -> String? {
                guard left > 0 else { return nil }
                left -= 1
                try await Task.sleep(for: .milliseconds(400))
                return "x"
            }
        }
    }

    private struct Endless: Sequence, IteratorProtocol, Sendable {
        mutating func next() -> String? { String(repeating: "x", count: 10_000) }
    }
}
