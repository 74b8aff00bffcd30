import Foundation
import TestSupport
import Testing

/// Tests `chanserv status`.
@Suite struct StatusCommandTests {
    @Test func `the status counts requests, sources and frames`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            for _ in 0..<3 { _ = try await host.post("echo", "--body", "twelve bytes") }
            let refused = try await host.post("ticker", "--body", "no number")
            #expect(refused.code == 1)
            let echo = try await host.route("echo")
            #expect(echo["requests_total"] as? Int == 3)
            #expect(echo["requests_open"] as? Int == 0)
            #expect(echo["requests_refused"] as? Int == 0)
            #expect(echo["sources_total"] as? Int == 3)
            #expect(echo["frames"] as? Int == 3)
            // Each frame has an 8-byte length prefix.
            #expect(echo["bytes"] as? Int == 3 * (8 + 12))
            #expect(echo["state"] as? String == "serving")
            #expect(echo["failures"] as? Int == 0)
            #expect((echo["digest"] as? String)?.count == 64)
            let ticker = try await host.route("ticker")
            #expect(ticker["requests_total"] as? Int == 1)
            #expect(ticker["frames"] as? Int == 0)
        }
    }

    @Test func `status, ready and mesh show the same host id`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let id = try #require(try await host.controlJSON("status")["host"] as? String)
            #expect(try await host.control("status").text.contains("\nid on the mesh: \(id)\n"))
            let mesh = try await ChanservCommand.run("mesh", "--join", host.address)
            #expect(mesh.text.contains("\(id)  echo "))
            host.process.kill(SIGTERM)
            let exit = try await host.process.exit()
            #expect(exit.errors.contains(" host=\(id)\n"))
        }
    }

    @Test func `during a stop the status says what the host waits for and the log what it cost`() async throws {
        let slow = TestHost.controlled.replacingOccurrences(of: "listen:", with: "drain: 3s\n  listen:")
        try await TestHost.serving(slow) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "[0]", count: 1)
            host.process.kill(SIGTERM)
            _ = try await host.process.errorLine(with: "stopping: no new requests, up to 3s for running ones")
            let status = try await host.control("status")
            #expect(status.text.contains(#/\nstopping for [0-3]s?, up to 3s for 1 open request\n/#), "\(status.text)")
            let exit = try await host.process.exit()
            #expect(exit.code == 0)
            #expect(exit.errors.contains(" cancelled 1 open request: the drain time of 3s is over\n"), "\(exit.errors)")
            #expect(try await post.exit().code == 1)
        }
    }

    @Test func `the status shows open requests and sources`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "2 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "[1]", count: 1)
            let ticker = try await host.route("ticker")
            #expect(ticker["sources_open"] as? Int == 2)
            // The request counts as open while it streams.
            #expect(ticker["requests_open"] as? Int == 1)
            let status = try await host.controlJSON("status")
            #expect(status["pid"] as? Int == Int(host.process.pid))
            #expect(status["listening"] as? [String] == [host.address])
            #expect(status["generation"] as? Int == 1)
            let generations = status["requests_by_generation"] as? [[String: Int]]
            #expect(generations == [["generation": 1, "requests": 1]])
            let plugins = try #require(status["plugins"] as? [[String: Any]])
            #expect(plugins.compactMap { $0["plugin"] as? String } == ["echo", "files", "ticker"])
            #expect(plugins.last?["calls_open"] as? Int == 1)
            #expect((status["retained"] as? [String: Int])?["copies"] == 3)
        }
    }

    @Test func `the tables have one line per route and per plugin`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            _ = try await host.post("echo", "--body", "x")
            let exit = try await host.control("status")
            #expect(exit.code == 0)
            #expect(exit.lines[0].hasPrefix("host \(host.process.pid), up "))
            #expect(exit.lines[0].hasSuffix("generation 1, listening on \(host.address)"))
            #expect(exit.text.contains(#/\necho +echo@[0-9a-f]{8} +serving +0 / 1 +0 +0 / 1 +1 +9 B +0 / 0\n/#))
            #expect(exit.text.contains(#/\necho@[0-9a-f]{8} +[^ ]+ +current +0 / 1 +0 +1 +0\n/#))
            #expect(exit.text.contains("libraries in memory: 3, "))
        }
    }

    @Test func `a replaced plugin is shown as old until its requests end`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "[0]", count: 1)
            try host.configure(TestHost.controlled.replacingOccurrences(of: "count: 3", with: "count: 4"))
            let reload = try await host.control("reload")
            #expect(reload.text.contains("repointed ticker"))
            let text = try await host.control("status").text
            #expect(text.contains(#/\nticker@[0-9a-f]{8} +[^ ]+ +old +1 / 1 /#))
            #expect(text.contains("older requests: 1 of generation 1"))
        }
    }

    @Test func `a watch on a pipe appends objects`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let watch = try ChanservCommand.start("status", "--watch", "--json", "--config", host.configurationFile)
            defer { watch.end() }
            let before = try await watch.outputLines(with: #""requests_total":0"#, count: 1)
            #expect(before.count >= 1)
            _ = try await host.post("echo", "--body", "x")
            _ = try await watch.outputLines(with: #""requests_total":1"#, count: 1)
            watch.kill(SIGINT)
            let exit = try await watch.exit()
            #expect(exit.code == 0)
            #expect(exit.errors == "")
            // The host is still available.
            #expect(try await host.control("status").code == 0)
        }
    }

    @Test func `worker processes are shown with their restarts`() async throws {
        let isolated = TestHost.controlled.replacingOccurrences(
            of: "{path: libEcho.so}", with: "{path: libEcho.so, isolation: process}")
        try await TestHost.serving(isolated) { host in
            #expect(try await host.post("echo", "--body", "x").text == "[0] x\n")
            let watch = try ChanservCommand.start("status", "--watch", "--json", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: #""restarts":0,"state":"serving""#, count: 1)
            let plugins = try #require(try await host.controlJSON("status")["plugins"] as? [[String: Any]])
            let worker = try #require((plugins[0]["workers"] as? [[String: Any]])?.first)
            let pid = try #require(worker["pid"] as? Int32)
            #expect(pid != host.process.pid && worker["last_end"] == nil)
            #expect((plugins[1]["workers"] as? [[String: Any]])?.isEmpty == true)
            #expect(
                try await host.control("status").text.contains(
                    #/\nWORKER .*\necho@[0-9a-f]{8} +\d+ +serving +0 +0 +-\n/#))

            #expect(Foundation.kill(pid, SIGKILL) == 0)
            _ = try await watch.outputLines(with: #""restarts":1,"state":"serving""#, count: 1)
            #expect(try await host.post("echo", "--body", "y").text == "[0] y\n")
        }
    }

    @Test func `a watch redraws the tables on a terminal`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let terminal = try PseudoTerminal()
            let device = try FileManager.default.destinationOfSymbolicLink(
                atPath: "/proc/self/fd/\(terminal.device.fileDescriptor)")
            let watch = try ChildProcess(
                "/bin/sh",
                [
                    "-c", "exec \"$0\" status --watch --config \"$1\" >\"$2\"",
                    ChanservCommand.buildFolder + "/chanserv", host.configurationFile, device,
                ])
            defer { watch.end() }
            for _ in 0..<2 { _ = try await terminal.read(until: "\u{1B}[H\u{1B}[2Jhost \(host.process.pid), up ") }
            watch.kill(SIGINT)
            #expect(try await watch.exit().code == 0)
        }
    }

    @Test func `a watch fits a terminal of 60 columns`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            for command in ["status", "mesh"] {
                let terminal = try PseudoTerminal(columns: 60)
                let watch = try ChildProcess(
                    "/bin/sh",
                    [
                        "-c", #"exec "$0" "$@" >&2"#, ChanservCommand.buildFolder + "/chanserv", command, "--watch",
                    ] + (command == "mesh" ? ["--join", host.address] : ["--config", host.configurationFile]),
                    errors: terminal.device)
                defer { watch.end() }
                let shown = try await terminal.read(until: "ticker")
                #expect(PseudoTerminal.lines(of: shown).filter { $0.count > 60 } == [])
                watch.kill(SIGINT)
                #expect(try await watch.exit().code == 0)
            }
        }
    }

    @Test(arguments: [["status", "--watch"], ["status"], ["requests", "--watch"], ["reload"]])
    func `a closed standard output ends the command with 141`(arguments: [String]) async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let process = try ChildProcess(
                ChanservCommand.buildFolder + "/chanserv", arguments + ["--config", host.configurationFile],
                keepsOutput: false)
            defer { process.end() }
            let exit = try await process.exit()
            #expect(exit.code == 141)
            #expect(exit.errors == "")
        }
    }

    @Test func `a watch ends with its host`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let watch = try ChanservCommand.start("status", "--watch", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: "ROUTE", count: 1)
            host.process.kill(SIGTERM)
            let exit = try await watch.exit()
            #expect(exit.code == 69)
            #expect(exit.errors.contains("the host is stopping"))
            #expect(try await host.process.exit().code == 0)
        }
    }
}
