import Chanserv
import ChanservCLI
import NIOCore
import TestSupport
import Testing

/// Runs `chanserv bench` with `--join` against running hosts.
@Suite struct BenchJoinTests {
    private static let configuration =
        TestHost.samples.replacingOccurrences(of: "plugins:\n", with: "plugins:\n  load: {path: libLoad.so}\n")
            + """
              - {vaddr: any, plugin: load}
              - {vaddr: small, plugin: load, compression: true}

            """

    @Test func `a running host can be measured with --join`() async throws {
        try await TestHost.serving(Self.configuration) { host in
            let join = ["--join", host.address, "--vaddr", "any", "--compressed-vaddr", "small", "--verify", "--json"]
            for workload in [
                ["connect", "--seconds", "0.1"], ["heavy", "--sources", "1", "--frames", "1"],
                ["heavy", "--sources", "1", "--frames", "1", "--kind", "text", "--compression"],
                ["mixed", "--seconds", "0.1", "--size", "1000"], ["idle", "--streams", "3"],
            ] {
                let exit = try await Bench.run(workload + join)
                #expect(exit.errors == "")
                #expect(exit.code == 0)
                #expect(exit.text.contains(#""host":"joined""#))
                #expect(!exit.text.contains("host_"))
            }
        }
    }

    @Test func `a response of another plugin is an error`() async throws {
        try await TestHost.serving { host in
            for vAddr in ["echo", "ticker", "files"] {
                let exit = try await Bench.run(["flood", "--join", host.address, "--vaddr", vAddr])
                #expect(exit.code == 1)
                #expect(exit.errors.hasPrefix("chanserv: \(vAddr): "))
                #expect(exit.errors.hasSuffix(" (does '\(vAddr)' lead to the Load plugin?)\n"))
                #expect(exit.text == "")
            }
        }
    }

    /// Runs `body` with a server that answers like the Load plugin, but applies `change` to the frames of the second
    /// source of a request with two sources.
    private static func answering(
        _ change: @escaping @Sendable ([[UInt8]]) -> [[UInt8]], _ body: (TestServer) async throws -> Void
    ) async throws {
        try await TestServer.serving({ request in
            let words = String(buffer: request.body).split(separator: " ")
            let (sources, frames, size) = (Int(words[0])!, Int(words[1])!, Int(words[2])!)
            let whole = [[UInt8]](repeating: [UInt8](repeating: 0, count: size), count: frames)
            return SourceList(
                (0..<sources).map { Source(header: "\($0)", frames: sources == 2 && $0 == 1 ? change(whole) : whole) })
        }) { try await body($0) }
    }

    private static func flood(_ server: TestServer, _ options: String...) async throws -> ChildProcess.Exit {
        try await Bench.run(
            ["flood", "--join", server.address, "--vaddr", "test", "--sources", "2", "--frames", "3", "--size", "64"]
                + ["--kind", "zero"] + options)
    }

    @Test func `a frame with wrong content is detected with --verify`() async throws {
        try await Self.answering({ frames in
            var frames = frames
            frames[2][63] = 1
            return frames
        }) { server in
            #expect(try await Self.flood(server).code == 0)
            let exit = try await Self.flood(server, "--verify")
            #expect(exit.code == 1)
            #expect(
                exit.errors
                    == "chanserv: test: wrong answer to '2 3 64 zero': frame 2 of source 1 has unexpected content\n")
            #expect(exit.text == "")
        }
    }

    @Test func `a frame of the wrong size is an error`() async throws {
        try await Self.answering({ frames in frames.dropLast() + [[1]] }) { server in
            let exit = try await Self.flood(server)
            #expect(exit.code == 1)
            #expect(exit.errors.hasSuffix("frame 2 of source 1 has 1 bytes, not 64\n"))
        }
    }

    @Test func `a missing frame is an error`() async throws {
        try await Self.answering({ frames in frames.dropLast() }) { server in
            let exit = try await Self.flood(server)
            #expect(exit.code == 1)
            #expect(exit.errors.hasSuffix("source 1 has 2 frames, not 3\n"))
        }
    }

    @Test func `a missing source is an error`() async throws {
        try await TestServer.serving({ request in
            let sources = Int(String(buffer: request.body).split(separator: " ")[0])!
            return SourceList((0..<min(sources, 1)).map { Source(header: "\($0)", frames: [[UInt8]()]) })
        }) { server in
            let exit = try await Bench.run(
                [
                    "flood", "--join", server.address, "--vaddr", "test", "--sources", "2", "--frames", "1", "--size",
                    "0",
                ])
            #expect(exit.code == 1)
            #expect(exit.errors.hasSuffix("there are 1 sources, not 2\n"))
        }
    }

    @Test func `an address that no node offers ends the command with 69 and a suggestion`() async throws {
        try await TestServer.serving({ _ in SourceList([Source]()) }) { server in
            let exit = try await Bench.run(["connect", "--join", server.address, "--vaddr", "tets"])
            #expect(exit.code == 69)
            #expect(exit.errors == "chanserv: no node offers 'tets' (waited 10s); did you mean 'test'?\n")
        }
    }

    @Test func `a node that cannot be joined ends the command with 69`() async throws {
        let exit = try await Bench.run(["connect", "--join", "127.0.0.1:1"])
        #expect(exit.code == 69)
        #expect(exit.errors.hasPrefix("chanserv: cannot join 127.0.0.1:1: "))
        #expect(exit.text == "")
    }
}
