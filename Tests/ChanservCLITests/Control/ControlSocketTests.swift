import Foundation
import TestSupport
import Testing

/// The socket itself: who may use it, whose it is, and what strangers can do to it.
@Suite struct ControlSocketTests {
    private func mode(_ path: String) throws -> mode_t {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw RawControlClient.Failed("no \(path)") }
        return status.st_mode
    }

    private func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    // MARK: The file

    @Test func onlyItsOwnerMayUseItAndItGoesWithItsHost() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let mode = try mode(host.socketPath)
            #expect(mode & S_IFMT == S_IFSOCK)
            #expect(mode & 0o7777 == 0o600)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
            #expect(!exists(host.socketPath))
        }
    }

    @Test func aSocketWhoseHostIsGoneIsReplaced() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let file = folder + "/chanserv.yaml"
            let first = try ChanservCommand.start("serve", "--config", file)
            _ = try await first.errorLine(with: "ready")
            first.kill(SIGKILL)
            #expect(try await first.exit().code == 128 + SIGKILL)
            #expect(exists(folder + "/c.sock"))

            let second = try ChanservCommand.start("serve", "--config", file)
            defer { second.end() }
            _ = try await second.errorLine(with: "ready")
            #expect(try await ChanservCommand.run("status", "--config", file).code == 0)
            #expect(try mode(folder + "/c.sock") & 0o7777 == 0o600)
        }
    }

    @Test func aSecondHostIsRefusedAndTheFirstGoesOn() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let second = try await ChanservCommand.run("serve", "--config", host.configurationFile)
            #expect(second.code == 69)
            #expect(second.errors.contains("chanserv.yaml:2:12: cannot make the control socket "))
            #expect(second.errors.contains("another host answers there: end it, or choose another path"))
            #expect(try await host.control("status").code == 0)
        }
    }

    @Test func whatIsNoSocketIsNotReplaced() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            try "precious".write(toFile: folder + "/c.sock", atomically: true, encoding: .utf8)
            let exit = try await ChanservCommand.run("serve", "--config", folder + "/chanserv.yaml")
            #expect(exit.code == 69)
            #expect(exit.errors.contains("chanserv.yaml:2:12: "))
            #expect(exit.errors.contains("something else than a socket stands there"))
            #expect(try String(contentsOfFile: folder + "/c.sock", encoding: .utf8) == "precious")
        }
    }

    @Test func aSocketThatIsAnothersByNowStaysWhenTheHostEnds() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            #expect(unlink(host.socketPath) == 0)
            try "another's".write(toFile: host.socketPath, atomically: false, encoding: .utf8)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
            #expect(exists(host.socketPath))
        }
    }

    @Test func aPathThatIsTooLongIsAnErrorOfTheConfiguration() async throws {
        let name = String(repeating: "x", count: 120)
        let long = TestHost.samples.replacingOccurrences(of: "node:\n", with: "node:\n  control: \(name)\n")
        try await TestHost.withFolder(long) { folder in
            for command in ["check", "serve", "status"] {
                let exit = try await ChanservCommand.run(command, "--config", folder + "/chanserv.yaml")
                #expect(exit.code == 65)
                #expect(exit.errors.contains("chanserv.yaml:2:12: the path of the control socket, "))
                #expect(exit.errors.contains("a socket's may have 107"))
            }
        }
    }

    @Test func withoutAWordThereIsNone() async throws {
        try await TestHost.serving { host in
            let names = try FileManager.default.contentsOfDirectory(atPath: host.folder)
            #expect(!names.contains { $0.hasSuffix(".sock") })
        }
    }

    // MARK: What comes over it

    @Test(arguments: [
        ("nonsense", "bad_request"), ("", "bad_request"), ("[]", "bad_request"), ("3", "bad_request"),
        ("{}", "bad_request"), (#"{"command":7}"#, "bad_request"), (#"{"command":"statsu"}"#, "unknown_command"),
        (#"{"command":"status","wacth":true}"#, "bad_request"), (#"{"command":"drain"}"#, "bad_request"),
        (#"{"command":"reload","vaddr":"echo"}"#, "bad_request"),
        (#"{"command":"status","watch":true,"interval_ms":1}"#, "bad_request"),
        (#"{"command":"drain","vaddr":"none"}"#, "unknown_vaddr"), ("\u{0}\u{1}\u{FF}", "bad_request"),
        (String(repeating: "[", count: 16_000), "bad_request"),
    ])
    func garbageIsAnsweredWithAnErrorAndHarmsNobodyElse(line: String, code: String) async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let other = try RawControlClient(host.socketPath)
            let client = try RawControlClient(host.socketPath)
            client.send(line + "\n")
            #expect(try await client.errorCode() == code)
            other.send("{\"command\":\"status\"}\n")
            #expect(try await other.object()["result"] != nil)
        }
    }

    @Test func aLineThatIsTooLongIsRefusedBeforeItEnds() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send(String(repeating: "x", count: 20_000))
            #expect(try await client.errorCode() == "too_long")
            #expect(try await client.line() == nil)
            #expect(try await host.control("status").code == 0)
        }
    }

    @Test func halfALineIsNoRequest() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send(#"{"command":"drain","vaddr":"echo"}"#)
            client.finish()
            #expect(try await client.errorCode() == "bad_request")
            #expect(try await client.line() == nil)
            #expect(try await host.route("echo")["state"] as? String == "serving")
        }
    }

    @Test func requestsInOneGoAreAnsweredInTheirOrderAlsoAfterTheEnd() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send(
                "{\"command\":\"enable\",\"vaddr\":\"echo\"}\n{\"command\":\"status\"}\n"
                    + "{\"command\":\"enable\",\"vaddr\":\"files\"}\n")
            client.finish()
            let answers = try await [client.object(), client.object(), client.object()]
            #expect((answers[0]["result"] as? [String: Any])?["vaddr"] as? String == "echo")
            #expect((answers[1]["result"] as? [String: Any])?["pid"] as? Int == Int(host.process.pid))
            #expect((answers[2]["result"] as? [String: Any])?["vaddr"] as? String == "files")
            #expect(try await client.line() == nil)
        }
    }

    @Test func anUnknownRouteDoesNotEndTheConnection() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send("{\"command\":\"enable\",\"vaddr\":\"none\"}\n{\"command\":\"enable\",\"vaddr\":\"echo\"}\n")
            #expect(try await client.errorCode() == "unknown_vaddr")
            #expect(try await client.object()["result"] != nil)
        }
    }

    @Test func tooManyConnectionsAreToldSoAndPlacesComeBack() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            var clients: [RawControlClient] = []
            for _ in 0..<64 {
                let client = try RawControlClient(host.socketPath)
                client.send("{\"command\":\"enable\",\"vaddr\":\"echo\"}\n")
                #expect(try await client.object()["result"] != nil)
                clients.append(client)
            }
            let late = try RawControlClient(host.socketPath)
            #expect(try await late.errorCode() == "busy")
            #expect(try await late.line() == nil)
            let exit = try await host.control("status")
            #expect(exit.code == 69)
            #expect(exit.errors.contains("too many connections"))

            // The end of an answer says that the place is free again.
            clients[0].finish()
            #expect(try await clients[0].line() == nil)
            var answer: [String: Any] = [:]
            for _ in 0..<1_000 where answer["result"] == nil {
                let next = try RawControlClient(host.socketPath)
                next.send("{\"command\":\"status\"}\n")
                answer = try await next.object()
            }
            #expect(answer["result"] != nil)
        }
    }

    @Test func aClientThatReadsNothingHoldsUpNobody() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let deaf = try RawControlClient(host.socketPath)
            deaf.send("{\"command\":\"status\",\"watch\":true,\"interval_ms\":100}\n")
            // More requests than the host reads for one that does not take the answers.
            for _ in 0..<10 { #expect(try await host.control("status").code == 0) }
            #expect(try await host.control("reload").code == 0)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
        }
    }
}
