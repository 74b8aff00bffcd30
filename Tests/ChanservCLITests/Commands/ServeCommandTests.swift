import Foundation
import TestSupport
import Testing

/// Runs `chanserv serve` as a process, with the sample plugins.
@Suite struct ServeCommandTests {
    @Test func `the sample plugins answer requests`() async throws {
        try await TestHost.serving { host in
            let echo = try await host.post("echo", "--body", "hello")
            #expect(echo.text == "[0] hello\n")
            #expect(echo.code == 0)

            let ticker = try await host.post("ticker", "--output", "json")
            #expect(ticker.lines.filter { $0.contains("frame") }.count == 6)
            #expect(ticker.lines.filter { $0.hasSuffix(#""end":"ok"}"#) }.count == 2)
            #expect(ticker.code == 0)
        }
    }

    @Test func `files from many folders arrive unchanged`() async throws {
        try await TestHost.serving { host in
            let count = 500
            for index in 0..<count {
                let folder = host.folder + "/tree/\(index % 10)/\(index % 3)"
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                let url = URL(fileURLWithPath: folder + "/\(index).bin")
                try Data(TestServer.contents(index)).write(to: url)
            }
            let exit = try await host.post("files", "--body", "tree/**/*.bin", "--save", host.folder + "/copy")
            #expect(exit.errors == "")
            #expect(exit.code == 0)
            for index in 0..<count {
                let path = "tree/\(index % 10)/\(index % 3)/\(index).bin"
                let copy = try Data(contentsOf: URL(fileURLWithPath: host.folder + "/copy/" + path))
                #expect(copy == Data(TestServer.contents(index)), "\(path)")
            }
        }
    }

    @Test func `a request that a plugin refuses fails`() async throws {
        try await TestHost.serving { host in
            let exit = try await host.post("ticker", "--body", "no number")
            #expect(exit.code == 1)
            #expect(exit.errors.hasPrefix("chanserv: ticker: "))
        }
    }

    @Test func `the host exits with 0 on SIGTERM and SIGINT`() async throws {
        for signal in [SIGTERM, SIGINT] {
            try await TestHost.serving { host in
                host.process.kill(signal)
                let exit = try await host.process.exit()
                #expect(exit.code == 0)
            }
        }
    }

    @Test func `an open request can finish after SIGTERM`() async throws {
        try await TestHost.serving { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 20ms 50", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputBytes(1)
            host.process.kill(SIGTERM)
            let exit = try await post.exit()
            #expect(exit.code == 0)
            #expect(exit.lines.last == "[0] tick 50")
            #expect(try await host.process.exit().code == 0)
        }
    }

    @Test func `a second signal ends the drain`() async throws {
        let longDrain = TestHost.samples.replacingOccurrences(of: "listen:", with: "drain: 1h\n  listen:")
        try await TestHost.serving(longDrain) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputBytes(100)
            host.process.kill(SIGTERM)
            _ = try await host.process.errorLine(with: "stopping")
            host.process.kill(SIGTERM)
            let exit = try await host.process.exit()
            #expect(exit.code == 0)
            #expect(exit.errors.contains(" cancelled 1 open request: the drain was ended early\n"), "\(exit.errors)")
            #expect(try await post.exit().code == 1)
        }
    }

    @Test func `SIGUSR1 is logged and ignored, and SIGUSR2 needs a control socket`() async throws {
        try await TestHost.serving { host in
            host.process.kill(SIGUSR1)
            let line = try await host.process.errorLine(with: "SIGUSR1")
            #expect(line.contains(" warning ") && line.contains("'chanserv reload'"), "\(line)")
            host.process.kill(SIGUSR2)
            _ = try await host.process.errorLine(with: "upgrade failed: no control socket")
            #expect(try await host.post("echo", "--body", "y").text == "[0] y\n")
        }
    }

    @Test func `SIGHUP reloads the configuration`() async throws {
        try await TestHost.serving { host in
            let more = TestHost.samples + "  - {vaddr: parrot, plugin: echo}\n"
            try more.write(toFile: host.configurationFile, atomically: true, encoding: .utf8)
            host.process.kill(SIGHUP)
            _ = try await host.process.errorLine(with: "parrot")
            #expect(try await host.post("parrot", "--body", "x").text == "[0] x\n")
            #expect(try await host.post("echo", "--body", "y").text == "[0] y\n")
        }
    }

    @Test func `a refused reload logs its reason and changes nothing`() async throws {
        try await TestHost.serving { host in
            let wrong = TestHost.samples + "  - {vaddr: parrot, plugin: parrott}\n"
            try wrong.write(toFile: host.configurationFile, atomically: true, encoding: .utf8)
            host.process.kill(SIGHUP)
            _ = try await host.process.errorLine(with: "chanserv.yaml:11:29: no plugin has the name 'parrott'")
            #expect(try await host.post("echo", "--body", "y").text == "[0] y\n")
        }
    }

    @Test func `an address in use ends the command with 69`() async throws {
        try await TestHost.serving { host in
            let same = TestHost.samples.replacingOccurrences(of: "127.0.0.1:0", with: host.address)
            try await TestHost.withFolder(same) { folder in
                let exit = try await ChanservCommand.run("serve", "--config", folder + "/chanserv.yaml")
                #expect(exit.code == 69)
                #expect(exit.errors.contains("chanserv.yaml:2:11: cannot listen on \(host.address): "))
                #expect(exit.errors.contains("another process listens there: choose another address"))
            }
        }
    }

    @Test func `a wrong configuration ends the command with all problems`() async throws {
        try await TestHost.withFolder("nodes: {}\nroutes: 3\n") { folder in
            let exit = try await ChanservCommand.run("serve", "--config", folder + "/chanserv.yaml")
            #expect(exit.code == 65)
            #expect(exit.errors.contains("chanserv.yaml:1:1: "))
            #expect(exit.errors.contains("chanserv.yaml:2:9: "))
        }
    }

    @Test func `JSON logs have one object per line`() async throws {
        try await TestHost.serving(options: ["--log-format", "json"]) { host in
            host.process.kill(SIGTERM)
            let exit = try await host.process.exit()
            let lines = exit.errors.split(separator: "\n")
            #expect(lines.count >= 2)
            for line in lines {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                #expect(object?["level"] as? String == "info")
                #expect(object?["message"] is String)
                #expect((object?["time"] as? String)?.hasSuffix("Z") == true)
            }
        }
    }

    @Test func `the option --log-level omits lower levels`() async throws {
        try await TestHost.withFolder("routes: 3\n") { folder in
            let quiet = try await ChanservCommand.run(
                "serve", "--config", folder + "/chanserv.yaml", "--log-level", "critical")
            #expect(quiet.errors.split(separator: "\n").allSatisfy { $0.contains(" critical ") })
            #expect(try await ChanservCommand.run("serve", "--log-level", "loud").code == 64)
        }
    }
}
