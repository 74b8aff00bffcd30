import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// What happens if one of the two processes of an upgrade fails.
    @Suite(.serialized, .timeLimit(.minutes(5))) struct UpgradeFailures {
        /// A configuration whose instance waits for a writer of the pipe `fifo`.
        private static func waiting(port: Int) -> String {
            Replacements.configuration.replacingOccurrences(
                of: "drill.so}", with: "drill.so, startup: 10m, preflight: false, config: {fifo: fifo}}"
            ).replacingOccurrences(of: "127.0.0.1:0", with: "127.0.0.1:\(port)")
        }

        /// Begins an upgrade to a process that waits for the pipe.
        ///
        /// - Returns: the command, and the id of the new process.
        private func begin(_ host: ServedHost) async throws -> (command: ChildProcess, pid: pid_t) {
            try #require(mkfifo(host.folder.file("fifo"), 0o600) == 0)
            try host.configure(Self.waiting(port: host.port))
            let command = try ChanservCommand.start("upgrade", "--json", "--config", host.configurationFile)
            let line = try await host.process.errorLine(with: "upgrade: started process ")
            let pid = try #require(line.split(separator: " ").last.flatMap { pid_t($0) })
            return (command, pid)
        }

        /// Checks that `pid` serves a client that was linked before, and a new one.
        private func expectServing(
            _ client: TestClient, _ host: ServedHost, _ replacements: Replacements, _ pid: pid_t
        ) async throws {
            #expect(try await client.frames("drill", "count 1 4")[0].map(\.string) == ["0000 0"])
            #expect(try await host.versionForNewClient() == 0)
            let status = try await replacements.status()
            #expect(status.pid == pid && status.stopping == nil)
        }

        @Test func `a configuration that is wrong for the new process changes nothing`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await host.connect()
                var held = try await client.begun("drill", "count 2000 8000")
                try host.configure(Replacements.configuration.replacingOccurrences(of: "routes:", with: "routez:"))
                let exit = try await replacements.run()
                #expect(exit.code == 65)
                #expect(exit.errors.contains("unknown key 'routez'; did you mean 'routes'?"), "\(exit.errors)")
                #expect(try Replacements.outcome(exit).pid == host.process.pid)
                try host.configure(Replacements.configuration)
                try await expectServing(client, host, replacements, host.process.pid)
                #expect(try version(of: try await held[0].all(), count: 2000, size: 8000) == 0)
                // The next one succeeds.
                try await replacements.upgrade()
                await client.close()
            }
        }

        @Test func `an address that the new process cannot use changes nothing`() async throws {
            try await ServedHost.serving { other in
                try await Replacements.serving { host, replacements in
                    let client = try await host.connect()
                    try host.configure(
                        Replacements.configuration.replacingOccurrences(
                            of: "127.0.0.1:0", with: "[\"127.0.0.1:0\", \"127.0.0.1:\(other.port)\"]"))
                    let exit = try await replacements.run()
                    #expect(exit.code == 69)
                    #expect(exit.errors.contains("another process listens there"), "\(exit.errors)")
                    try await expectServing(client, host, replacements, host.process.pid)
                    await client.close()
                }
            }
        }

        @Test func `a new process that is killed before it takes over changes nothing`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await host.connect()
                let (command, pid) = try await begin(host)
                defer { command.end() }
                #expect(kill(pid, SIGKILL) == 0)
                let exit = try await command.exit()
                #expect(exit.code == 69)
                #expect(exit.errors.contains("was killed by SIGKILL"), "\(exit.errors)")
                try host.configure(Replacements.configuration)
                try await expectServing(client, host, replacements, host.process.pid)
                await client.close()
            }
        }

        @Test func `a second upgrade waits for the result of the first`() async throws {
            try await Replacements.serving { host, replacements in
                let (first, pid) = try await begin(host)
                defer { first.end() }
                let second = try RawControlClient(host.folder.file("c.sock"))
                second.send(#"{"command":"upgrade"}"# + "\n")
                #expect(try await second.line() == #"{"progress":{}}"#)
                let fifo = try FileHandle(forWritingTo: URL(fileURLWithPath: host.folder.file("fifo")))
                try fifo.close()
                let exit = try await first.exit()
                #expect(exit.code == 0, "\(exit.errors)")
                replacements.add(pid)
                #expect(try Replacements.outcome(exit).pid == pid)
                var line = try await second.line()
                while line == #"{"progress":{}}"# { line = try await second.line() }
                #expect(line == #"{"result":{"pid":\#(pid),"reasons":[],"result":"upgraded"}}"#)
            }
        }

        @Test func `the new process serves if the old one is killed before the hand-over`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await TestClient(port: host.port, keepsJoined: true)
                let (command, pid) = try await begin(host)
                defer { command.end() }
                replacements.add(pid)
                host.process.kill(SIGKILL)
                let exit = try await command.exit()
                #expect(exit.code == 69)
                let fifo = try FileHandle(forWritingTo: URL(fileURLWithPath: host.folder.file("fifo")))
                try fifo.close()
                _ = try await host.process.errorLine(with: "nothing to take over")
                _ = try await host.process.errorLine(with: "ready: listening on 127.0.0.1:\(host.port)")
                try await expectServing(client, host, replacements, pid)
                await client.close()
            }
        }

        @Test func `the new process serves if the old one is killed while it drains`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await TestClient(port: host.port, keepsJoined: true)
                var held = try await client.begun("drill", "forever 100 a")
                try DrillPlugin.write(version: 1, to: host.folder.file("drill.so"))
                let pid = try await replacements.upgrade()
                try await eventually { try await client.report("drill", "stats")["version"] == 1 }
                host.process.kill(SIGKILL)
                await #expect(throws: ChanservError.self) { while try await held[0].rest.next() != nil {} }
                #expect(try await client.report("drill", "stats")["version"] == 1)
                #expect(try await host.versionForNewClient() == 1)
                #expect(try await replacements.status().pid == pid)
                try await replacements.upgrade()
                await client.close()
            }
        }

        @Test func `taking over needs a control socket in the configuration`() async throws {
            try await ServedHost.serving { host in
                let other = try await ChanservCommand.run("serve", "--take-over", "--config", host.configurationFile)
                #expect(other.code == 65)
                let reason = "--take-over finds the host by 'control' under 'node'"
                #expect(other.errors.contains(reason), "\(other.errors)")
                #expect(try await host.versionForNewClient() == 0)
            }
        }

        @Test func `a hanging host is not taken over, and serves on when it continues`() async throws {
            try await Replacements.serving { host, replacements in
                let client = try await host.connect()
                host.process.kill(SIGSTOP)
                let other = try await ChanservCommand.run("serve", "--take-over", "--config", host.configurationFile)
                #expect(other.code == 69)
                #expect(other.errors.contains("it did not answer within 10s"), "\(other.errors)")
                host.process.kill(SIGCONT)
                try await expectServing(client, host, replacements, host.process.pid)
                await client.close()
            }
        }
    }
}
