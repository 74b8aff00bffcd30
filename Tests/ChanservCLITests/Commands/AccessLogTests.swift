import Foundation
import TestSupport
import Testing

/// Hosts with `log.access`.
@Suite(.timeLimit(.minutes(2))) struct AccessLogTests {
    private static func logging(_ access: String, _ text: String = TestHost.controlled) -> String {
        "log: {access: \(access)}\n" + text
    }

    /// Waits until a file in the folder of a host has `count` lines.
    private func lines(_ host: TestHost, _ name: String = "access.log", count: Int) async throws -> [String] {
        var lines: [String] = []
        try await eventually {
            let text = (try? String(contentsOfFile: host.folder + "/" + name, encoding: .utf8)) ?? ""
            lines = text.split(separator: "\n").map(String.init)
            return lines.count >= count
        }
        return lines
    }

    private func object(_ line: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }

    @Test func `a file has one JSON line for each request with its result`() async throws {
        let configuration = Self.logging("access.log").replacingOccurrences(of: "node:\n", with: "node:\n  name: n-1\n")
            .replacingOccurrences(of: "{vaddr: echo,", with: "{vaddr: echo, limits: {concurrent: none},")
            .replacingOccurrences(of: "{vaddr: ticker,", with: "{vaddr: ticker, limits: {concurrent: 1},")
        try await TestHost.serving(configuration, options: ["--log-format", "json"]) { host in
            #expect(try await host.post("echo", "--body", "twelve bytes").code == 0)
            var object = try object(try await lines(host, count: 1)[0])
            #expect(object["route"] as? String == "echo")
            #expect(object["result"] as? String == "ok")
            #expect(object["sources"] as? Int == 1 && object["frames"] as? Int == 1)
            #expect(object["bytes"] as? Int == 20)
            #expect(object["node"] as? String == "n-1" && object["reason"] == nil)
            #expect((object["address"] as? String)?.hasPrefix("127.0.0.1:") == true)
            let (first, duration) = (object["first_frame_ms"] as? Double, object["duration_ms"] as? Double)
            #expect(try #require(first) <= (try #require(duration)))
            #expect(object["id"] as? Int == 1)
            #expect((object["time"] as? String)?.hasSuffix("Z") == true)
            #expect((object["client"] as? String)?.contains(":") == true)

            #expect(try await host.post("ticker", "--body", "no number").code == 1)
            object = try self.object(try await lines(host, count: 2)[1])
            #expect(object["result"] as? String == "failed" && object["first_frame_ms"] == nil)
            #expect((object["reason"] as? String)?.isEmpty == false)

            // The second request is refused, and the first one is cancelled by the operator.
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "[0]", count: 1)
            #expect(try await host.post("ticker", "--body", "1 1ms 1").code == 69)
            object = try self.object(try await lines(host, count: 3)[2])
            #expect(object["result"] as? String == "refused" && object["id"] == nil)
            #expect((object["reason"] as? String)?.hasPrefix("busy: ") == true)
            let open = try #require(try await host.controlJSON("requests")["requests"] as? [[String: Any]])
            let id = try #require(open.first?["id"] as? Int)
            #expect(try await host.control("cancel", "\(id)", "--reason", "a \"test\"").code == 0)
            object = try self.object(try await lines(host, count: 4)[3])
            #expect(object["id"] as? Int == id && object["result"] as? String == "cancelled")
            #expect(object["reason"] as? String == "cancelled by the operator: a \"test\"")
            #expect(try #require(object["frames"] as? Int) > 0)

            // A client that goes away.
            let gone = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            _ = try await gone.outputLines(with: "[0]", count: 1)
            gone.kill(SIGKILL)
            gone.end()
            object = try self.object(try await lines(host, count: 5)[4])
            #expect(object["result"] as? String == "cancelled", "\(object)")
            let written = try #require(try await host.controlJSON("status")["access_log"] as? [String: Any])
            #expect(written["written"] as? Int == 5 && written["lost"] as? Int == 0)
            let refused = try await host.route("ticker")["refused"] as? [String: Int]
            #expect(refused == ["busy": 1, "withdrawn": 0, "draining": 0, "denied": 0, "quota": 0])
        }
    }

    @Test func `the log of the host has a line for each request if access is true`() async throws {
        try await TestHost.serving(Self.logging("true")) { host in
            #expect(try await host.post("echo", "--body", "x").code == 0)
            let line = try await host.process.errorLine(with: "route 'echo': request ok")
            #expect(line.contains(#/ address=127\.0\.0\.1:\d+ bytes=9 client=\S+ duration_ms=[\d.]+ /#), "\(line)")
            // A reload turns the log off and on.
            try host.configure(Self.logging("false"))
            let dry = try await host.control("reload", "--dry-run")
            #expect(dry.text == "a reload would apply: changed log.access; 3 untouched; still serving generation 1\n")
            #expect(try await host.control("reload").text == "generation 1: changed log.access; 3 untouched\n")
            #expect(try await host.post("echo", "--body", "x").code == 0)
            try host.configure(Self.logging("other.log"))
            #expect(try await host.control("reload", "--dry-run").code == 0)
            #expect(!FileManager.default.fileExists(atPath: host.folder + "/other.log"))
            #expect(try await host.control("reload").code == 0)
            #expect(try await host.post("echo", "--body", "yy").code == 0)
            let lines = try await lines(host, "other.log", count: 1)
            #expect(lines[0].contains(" route=echo result=ok sources=1 frames=1 bytes=10 first_frame_ms="), "\(lines)")
            host.process.kill(SIGTERM)
            let log = try await host.process.exit().errors
            #expect(log.components(separatedBy: "request ok").count == 2, "\(log)")
        }
    }

    @Test func `SIGHUP opens the file again after a rotation and no line is lost`() async throws {
        try await TestHost.serving(Self.logging("access.log")) { host in
            let file = host.folder + "/access.log"
            #expect(try await host.post("echo", "--body", "x").code == 0)
            _ = try await lines(host, count: 1)
            try FileManager.default.moveItem(atPath: file, toPath: file + ".1")
            #expect(try await host.post("echo", "--body", "x").code == 0)
            _ = try await lines(host, "access.log.1", count: 2)
            host.process.kill(SIGHUP)
            _ = try await host.process.errorLine(with: "reload: nothing has changed")
            #expect(try await host.post("echo", "--body", "x").code == 0)
            _ = try await lines(host, count: 1)
            #expect(try await lines(host, "access.log.1", count: 2).count == 2)
            let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
            #expect(mode.map { $0 & 0o137 } == 0)
        }
    }

    @Test func `a file that cannot be written is reported once and its lines are counted`() async throws {
        try await TestHost.serving(Self.logging("/dev/full")) { host in
            for _ in 0..<3 { #expect(try await host.post("echo", "--body", "x").code == 0) }
            let message = "cannot write the access log '/dev/full': No space left on device"
            _ = try await host.process.errorLine(with: message)
            try await eventually {
                (try await host.controlJSON("status")["access_log"] as? [String: Any])?["lost"] as? Int == 3
            }
            #expect(
                try await host.control("status").text.contains("\naccess log /dev/full: 3 of 3 lines were lost\n"))
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().errors.components(separatedBy: message).count == 2)
        }
    }

    @Test func `a file that cannot be opened ends the start and refuses a reload`() async throws {
        let wrong = Self.logging("missing/access.log")
        try await TestHost.withFolder(wrong) { folder in
            for command in ["serve", "check"] {
                let exit = try await ChanservCommand.run(command, "--config", folder + "/chanserv.yaml")
                #expect(exit.code == 65)
                #expect(exit.errors.contains("chanserv.yaml:1:15: cannot open the access log"), "\(exit.errors)")
            }
        }
        try await TestHost.serving(Self.logging("access.log")) { host in
            try host.configure(wrong)
            for options in [["--dry-run"], []] {
                let exit = try await ChanservCommand.run(["reload", "--config", host.configurationFile] + options)
                #expect(exit.code == 65)
                #expect(exit.errors.contains("chanserv.yaml:1:15: cannot open the access log"), "\(exit.errors)")
            }
            #expect(try await host.post("echo", "--body", "x").code == 0)
            #expect(try await lines(host, count: 1).count == 1)
        }
    }
}
