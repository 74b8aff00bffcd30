import ChanservCLI
import Foundation
import NIOCore
import TestSupport
import Testing

/// Tests the control socket: its file, its permissions, and its handling of invalid input.
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

    @Test func `the socket has mode 0600 and is removed with its host`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let mode = try mode(host.socketPath)
            #expect(mode & S_IFMT == S_IFSOCK)
            #expect(mode & 0o7777 == 0o600)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
            #expect(!exists(host.socketPath))
        }
    }

    @Test func `the socket of a killed host is replaced`() async throws {
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

    @Test func `a second host with the same socket is refused`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let second = try await ChanservCommand.run("serve", "--config", host.configurationFile)
            #expect(second.code == 69)
            #expect(second.errors.contains("chanserv.yaml:2:12: cannot create the control socket "))
            #expect(second.errors.contains("another host listens there: stop it, or choose another path"))
            #expect(try await host.control("status").code == 0)
        }
    }

    @Test func `a file that is not a socket is not replaced`() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            try "precious".write(toFile: folder + "/c.sock", atomically: true, encoding: .utf8)
            let exit = try await ChanservCommand.run("serve", "--config", folder + "/chanserv.yaml")
            #expect(exit.code == 69)
            #expect(exit.errors.contains("chanserv.yaml:2:12: "))
            #expect(exit.errors.contains("the file there is not a socket"))
            #expect(try String(contentsOfFile: folder + "/c.sock", encoding: .utf8) == "precious")
        }
    }

    @Test func `the host does not remove a file that replaced its socket`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            #expect(unlink(host.socketPath) == 0)
            try "another's".write(toFile: host.socketPath, atomically: false, encoding: .utf8)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
            #expect(exists(host.socketPath))
        }
    }

    @Test func `a reload creates a removed socket again and keeps connections`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let before = try RawControlClient(host.socketPath)
            before.send("{\"command\":\"status\"}\n")
            #expect(try await before.object()["result"] != nil)
            for _ in 0..<2 {
                #expect(unlink(host.socketPath) == 0)
                #expect(try await host.control("status").code == 69)
                host.process.kill(SIGHUP)
                _ = try await host.process.errorLine(with: "' was removed: created it again")
                _ = try await host.process.errorLine(with: "nothing has changed")
                #expect(try await host.control("status").code == 0)
                let mode = try mode(host.socketPath)
                #expect(mode & 0o7777 == 0o600)
            }
            var answer: [String: Any] = [:]
            // The connection to the removed socket still works, before and after the new socket is removed.
            before.send("{\"command\":\"reload\"}\n")
            repeat { answer = try await before.object() } while answer["progress"] != nil
            #expect(answer["result"] != nil, "\(answer)")
            #expect(unlink(host.socketPath) == 0)
            before.send("{\"command\":\"reload\"}\n")
            repeat { answer = try await before.object() } while answer["progress"] != nil
            #expect(answer["result"] != nil, "\(answer)")
            #expect(try await host.control("status").code == 0)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
            #expect(!exists(host.socketPath))
        }
    }

    @Test func `a reload does not replace a file that took the place of the socket`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            #expect(unlink(host.socketPath) == 0)
            try "another's".write(toFile: host.socketPath, atomically: false, encoding: .utf8)
            host.process.kill(SIGHUP)
            _ = try await host.process.errorLine(
                with: "the control socket was removed: cannot create the control socket ")
            _ = try await host.process.errorLine(with: "nothing has changed")
            #expect(try String(contentsOfFile: host.socketPath, encoding: .utf8) == "another's")
        }
    }

    @Test(arguments: [
        ("none/c.sock", "its folder does not exist: create it, or choose another path"),
        ("chanserv.yaml/c.sock", "its folder is not a directory: choose another path"),
        ("folder", "the file there is not a socket and is not replaced: choose another path"),
    ])
    func `check and serve report a socket that cannot be created`(path: String, reason: String) async throws {
        let configuration = TestHost.controlled.replacingOccurrences(of: "c.sock", with: path)
        try await TestHost.withFolder(configuration) { folder in
            try FileManager.default.createDirectory(atPath: folder + "/folder", withIntermediateDirectories: false)
            for (command, code) in [("check", 65), ("serve", 69)] {
                let exit = try await ChanservCommand.run(command, "--config", folder + "/chanserv.yaml")
                #expect(exit.code == Int32(code))
                #expect(
                    exit.errors.contains("chanserv.yaml:2:12: cannot create the control socket '"), "\(exit.errors)")
                for part in reason.split(separator: "*") { #expect(exit.errors.contains(part), "\(exit.errors)") }
            }
        }
    }

    @Test func `check accepts the socket of the running host`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let exit = try await host.control("check")
            #expect(exit.code == 0, "\(exit.errors)")
        }
    }

    @Test func `the options --config and --socket exclude each other`() async throws {
        for command in [
            ["status"], ["reload"], ["drain", "echo"], ["enable", "echo"], ["requests"], ["cancel", "1"],
        ] {
            let exit = try await ChanservCommand.run(command + ["--config", "a.yaml", "--socket", "b.sock"])
            #expect(exit.code == 64)
            #expect(exit.errors.contains("--config and --socket exclude each other"), "\(exit.errors)")
        }
    }

    @Test func `a missing permission has another message than a missing host`() {
        let refused = ControlClient.problem(with: "/run/c.sock", IOError(errnoCode: EACCES, reason: "connect"))
        #expect(
            refused == "cannot connect to '/run/c.sock': only root and the user that the host runs as may use it")
        let gone = ControlClient.problem(with: "/run/c.sock", IOError(errnoCode: ECONNREFUSED, reason: "connect"))
        #expect(
            gone == "no host answers at '/run/c.sock': Connection refused: the host that created this socket has ended")
    }

    @Test func `a socket path that is too long is a configuration error`() async throws {
        let name = String(repeating: "x", count: 120)
        let long = TestHost.samples.replacingOccurrences(of: "node:\n", with: "node:\n  control: \(name)\n")
        try await TestHost.withFolder(long) { folder in
            for command in ["check", "serve", "status"] {
                let exit = try await ChanservCommand.run(command, "--config", folder + "/chanserv.yaml")
                #expect(exit.code == 65)
                #expect(exit.errors.contains("chanserv.yaml:2:12: the path of the control socket '"))
                #expect(exit.errors.contains("at most 107 are allowed"))
            }
        }
    }

    @Test func `there is no socket unless the configuration names one`() async throws {
        try await TestHost.serving { host in
            let names = try FileManager.default.contentsOfDirectory(atPath: host.folder)
            #expect(!names.contains { $0.hasSuffix(".sock") })
        }
    }

    // MARK: The protocol

    @Test(arguments: [
        ("nonsense", "bad_request"), ("", "bad_request"), ("[]", "bad_request"), ("3", "bad_request"),
        ("{}", "bad_request"), (#"{"command":7}"#, "bad_request"), (#"{"command":"statsu"}"#, "unknown_command"),
        (#"{"command":"status","wacth":true}"#, "bad_request"), (#"{"command":"drain"}"#, "bad_request"),
        (#"{"command":"cancel"}"#, "bad_request"), (#"{"command":"cancel","id":1.5}"#, "bad_request"),
        (#"{"command":"cancel","id":18446744073709551615}"#, "unknown_request"),
        (#"{"command":"requests","vaddr":"none"}"#, "unknown_vaddr"),
        (#"{"command":"reload","vaddr":"echo"}"#, "bad_request"),
        (#"{"command":"status","watch":true,"interval_ms":1}"#, "bad_request"),
        (#"{"command":"drain","vaddr":"none"}"#, "unknown_vaddr"), ("\u{0}\u{1}\u{FF}", "bad_request"),
        (String(repeating: "[", count: 16_000), "bad_request"),
    ])
    func `an invalid line is answered with an error and does not affect other clients`(
        line: String, code: String
    ) async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let other = try RawControlClient(host.socketPath)
            let client = try RawControlClient(host.socketPath)
            client.send(line + "\n")
            #expect(try await client.errorCode() == code)
            other.send("{\"command\":\"status\"}\n")
            #expect(try await other.object()["result"] != nil)
        }
    }

    @Test func `a line that is too long is refused before its end`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send(String(repeating: "x", count: 20_000))
            #expect(try await client.errorCode() == "too_long")
            #expect(try await client.line() == nil)
            #expect(try await host.control("status").code == 0)
        }
    }

    @Test func `a line without a line feed is an error`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send(#"{"command":"drain","vaddr":"echo"}"#)
            client.finish()
            #expect(try await client.errorCode() == "bad_request")
            #expect(try await client.line() == nil)
            #expect(try await host.route("echo")["state"] as? String == "serving")
        }
    }

    @Test func `pipelined requests are answered in order, also after the end of the input`() async throws {
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

    @Test func `an unknown route does not close the connection`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send("{\"command\":\"enable\",\"vaddr\":\"none\"}\n{\"command\":\"enable\",\"vaddr\":\"echo\"}\n")
            #expect(try await client.errorCode() == "unknown_vaddr")
            #expect(try await client.object()["result"] != nil)
        }
    }

    @Test func `connections above the limit are refused until one closes`() async throws {
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

            // The end of the connection shows that its place is free again.
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

    @Test func `a client that does not read does not block others`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let silent = try RawControlClient(host.socketPath)
            silent.send("{\"command\":\"status\",\"watch\":true,\"interval_ms\":100}\n")
            for _ in 0..<10 { #expect(try await host.control("status").code == 0) }
            #expect(try await host.control("reload").code == 0)
            host.process.kill(SIGTERM)
            #expect(try await host.process.exit().code == 0)
        }
    }
}
