import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Workers that are signalled, stopped or killed, or that send forged reports.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct Care {
        private static func configuration(_ options: String = "") -> String {
            """
            node: {listen: 127.0.0.1:0}
            defaults: {error_mass: {limit: none}}
            plugins:
              drill: {path: drill.so, isolation: process\(options)}
              local: {path: drill.so}
            routes:
              - {vaddr: drill, plugin: drill}
              - {vaddr: local, plugin: local}
            """
        }

        /// The worker processes of the plugin `drill`.
        private static func workers(of host: ServedHost) throws -> [pid_t] {
            try ProcessFigures(host.process.pid).children.filter { $0.arguments.contains("drill") }.map(\.pid)
        }

        @Test(arguments: [SIGHUP, SIGUSR1, SIGUSR2])
        func `a signal that is meant for the host does not end a worker`(number: Int32) async throws {
            try await ServedHost.serving(Self.configuration()) { host in
                let workers = try Self.workers(of: host)
                for worker in workers { kill(worker, number) }
                let answered = try await host.withClient { try await $0.report("drill", "stats")["process"] }
                #expect(workers.map(Int.init) == [answered])
            }
        }

        @Test func `a stopped worker receives at most one of two requests`() async throws {
            try await ServedHost.serving(Self.configuration(", processes: 2, heartbeat_timeout: 4s")) { host in
                let workers = try Self.workers(of: host)
                try #require(workers.count == 2)
                kill(workers[0], SIGSTOP)
                try await host.withClient { client in
                    // At most one of the two requests goes to the stopped worker, and fails when that worker is killed.
                    var answers = 0
                    for _ in 0..<2 {
                        do {
                            let answered = try await client.report("drill", "stats")["process"]
                            #expect(answered != Int(workers[0]))
                            answers += 1
                        } catch let error as ChanservError {
                            #expect(error.message.contains("sent no report for 4s"), "\(error)")
                        }
                    }
                    #expect(answers >= 1)
                }
                _ = try await host.process.errorLine(with: "restarting it")
                _ = try await host.process.errorLine(with: "serving again")
            }
        }

        @Test func `a request waits for a worker that is being restarted`() async throws {
            try await ServedHost.serving(Self.configuration()) { host in
                kill(try #require(Self.workers(of: host).first), SIGKILL)
                _ = try await host.process.errorLine(with: "restarting it")
                let asked = ContinuousClock.now
                do {
                    _ = try await host.withClient { try await $0.report("drill", "stats") }
                } catch let error as ChanservError {
                    // On a busy machine, the restart may take longer than a request waits.
                    #expect(error.message.contains("is being restarted"), "\(error)")
                    #expect(ContinuousClock.now - asked >= .seconds(1))
                }
            }
        }

        @Test func `a call that does not return stays open in the status after its client has left`() async throws {
            let configuration = Self.configuration().replacingOccurrences(
                of: "node: {", with: "node: {control: c.sock, ")
            try await ServedHost.serving(configuration) { host in
                try await host.withClient { client in
                    let stuck = Task { try await client.frames("drill", "ruin hang") }
                    _ = try await host.process.errorLine(with: "has not returned for")
                    stuck.cancel()
                }
                let status = try await eventually(host, in: "status") { text in
                    text.contains(#/\ndrill@\w+ +\S+ +current +1 / 1 /#) && text.contains(#/ \d+ +serving +1 +0 /#)
                }
                #expect(status.contains("\ndrill "), "\(status)")
            }
        }

        /// Runs a control command until its output fulfils a condition.
        private func eventually(
            _ host: ServedHost, in command: String, _ condition: (String) -> Bool
        ) async throws -> String {
            while true {
                let text = try await ChanservCommand.run(command, "--config", host.configurationFile).text
                if condition(text) { return text }
            }
        }

        @Test func `forged statistics of a worker do no harm`() async throws {
            try await ServedHost.serving(Self.configuration(", processes: 2")) { host in
                try await host.withClient { client in
                    for _ in 0..<3 {
                        let error = try await failure(of: { try await client.frames("drill", "ruin forge") })
                        #expect(error.message.contains("exited with code 3"), "\(error)")
                        _ = try await host.process.errorLine(with: "serving again")
                        _ = try await client.report("local", "stats")
                    }
                }
                host.process.kill(SIGTERM)
                #expect(try await host.process.exit().code == 0)
            }
        }

        @Test func `the option nice is added to the niceness of the host`() async throws {
            try await ServedHost.serving(Self.configuration(", nice: 5")) { host in
                let own = try ProcessFigures(host.process.pid).niceness(ofThread: "chanserv")
                let worker = ProcessFigures(try #require(Self.workers(of: host).first))
                _ = try await host.withClient { try await $0.report("drill", "stats") }
                for name in ["chanserv-worker", "plugin-1"] {
                    #expect(try worker.niceness(ofThread: name) == min(19, own + 5), "\(name)")
                }
            }
        }
    }
}
