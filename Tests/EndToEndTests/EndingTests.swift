import Chanserv
import Foundation
import NIOCore
import TestSupport
import Testing

extension EndToEnd {
    /// The end of a host: drain after a signal, a second signal, the drain deadline, and SIGKILL.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct Ending {
        private static func configuration(_ isolation: Isolation, drain: String) -> String {
            isolation.applied(
                to: ServedHost.drill.replacingOccurrences(of: "127.0.0.1:0", with: "127.0.0.1:0, drain: \(drain)"))
        }

        @Test(arguments: [SIGTERM, SIGINT], Isolation.allCases)
        func `after SIGTERM or SIGINT streams in flight complete and new requests are refused`(
            signal: Int32, isolation: Isolation
        ) async throws {
            try await ServedHost.serving(Self.configuration(isolation, drain: "10m")) { host in
                try await host.withClient { client in
                    let late = try await TestClient(port: host.port) { $0.dialTimeout = .milliseconds(500) }
                    // Far more frames than windows and buffers hold, so that no stream is complete.
                    var sources = try await client.begun("drill", "repeat 20 count 1000 2000")
                    try #require(sources.count == 20)

                    host.process.kill(signal)
                    _ = try await host.process.errorLine(with: "stopping")
                    // A request just before the withdrawal is answered. Later ones are refused.
                    var refused: ChanservError?
                    while refused == nil {
                        do {
                            _ = try await late.frames("drill", "stats")
                        } catch let error as ChanservError where error.code != .deadlineExceeded {
                            refused = error
                        } catch is ChanservError {
                            // A timeout is no refusal: the host may be slow.
                        }
                    }
                    #expect(refused?.code == .notFound || refused?.code == .refused, "\(refused as Any)")

                    for index in sources.indices {
                        #expect(try version(of: await sources[index].all(), count: 1000, size: 2000) == 0)
                    }
                    let exit = try await host.process.exit()
                    #expect(exit.code == 0)
                    #expect(exit.errors.contains("destroyed version 0000"))
                    await late.close()
                }
            }
        }

        @Test(arguments: Isolation.allCases)
        func `a second SIGTERM ends the host at once`(isolation: Isolation) async throws {
            try await ServedHost.serving(Self.configuration(isolation, drain: "10m")) { host in
                try await host.withClient { client in
                    var sources = try await client.begun("drill", "deaf a\nforever 1000 b")
                    try #require(sources.count == 2)
                    host.process.kill(SIGTERM)
                    _ = try await host.process.errorLine(with: "stopping")
                    host.process.kill(SIGTERM)
                    for index in sources.indices {
                        let error = try await failure(of: { try await sources[index].all() })
                        #expect(error.code == .sourceFailed || error.code == .connectionLost, "\(error)")
                    }
                    #expect(try await host.process.exit().code == 0)
                }
            }
        }

        @Test(arguments: [SIGTERM, SIGINT], Isolation.allCases)
        func `a signal ends a start whose create does not return`(signal: Int32, isolation: Isolation) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try #require(mkfifo(folder.file("fifo"), 0o600) == 0)
            let configuration = Self.configuration(isolation, drain: "10m").replacingOccurrences(
                of: "drill.so}", with: "drill.so, startup: 10m, preflight: false, config: {fifo: fifo}}")
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let process = try ChanservCommand.start("serve", "--config", folder.file("chanserv.yaml"))
            defer { process.end() }
            _ = try await process.errorLine(with: "create waits")
            process.kill(signal)
            _ = try await process.errorLine(with: "stopped")
            let exit = try await process.exit()
            #expect(exit.code == 0)
            #expect(!exit.errors.contains("ready"))
        }

        @Test(arguments: [SIGTERM, SIGINT])
        func `a signal ends a start whose preflight does not return`(signal: Int32) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            let configuration = Self.configuration(.host, drain: "10m").replacingOccurrences(
                of: "drill.so}", with: "drill.so, startup: 10m, config: {create: hang}}")
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let process = try ChanservCommand.start("serve", "--config", folder.file("chanserv.yaml"))
            defer { process.end() }
            let preflight = try await ProcessFigures(process.pid).child { try $0.blocksSignals }
            let ends = try ProcessEnds([preflight.pid])
            process.kill(signal)
            let exit = try await process.exit()
            #expect(exit.code == 0)
            #expect(exit.errors.contains("stopped") && !exit.errors.contains("ready"))
            #expect(await ends.left().isEmpty)
        }

        @Test(arguments: Isolation.allCases)
        func `streams that run at the drain deadline are cancelled with the reason`(isolation: Isolation) async throws {
            try await ServedHost.serving(Self.configuration(isolation, drain: "300ms")) { host in
                try await host.withClient { client in
                    var sources = try await client.begun("drill", "deaf a\nforever 1000 b\ndeaf c")
                    try #require(sources.count == 3)
                    host.process.kill(SIGTERM)
                    for index in sources.indices {
                        let error = try await failure(of: { try await sources[index].all() })
                        #expect(error.code == .sourceFailed, "\(error)")
                        #expect(error.message.contains("the host stopped and its time to drain is over"), "\(error)")
                    }
                    let exit = try await host.process.exit()
                    #expect(exit.code == 0)
                    #expect(exit.errors.contains("destroyed version 0000"))
                }
            }
        }

        @Test(arguments: Isolation.allCases)
        func `clients of a killed host get a lost connection and no normal end`(isolation: Isolation) async throws {
            try await ServedHost.serving(isolation.applied(to: ServedHost.drill)) { host in
                try await host.withClient { client in
                    var sources = try await client.begun("drill", "forever 1000 a\ndeaf b\ncount 100000 1000")
                    try #require(sources.count == 3)
                    // More sources than are announced ahead, so that the listing is not complete.
                    let listing = try await client.post("drill", "repeat 100000 deaf c")
                    var listed = listing.makeAsyncIterator()
                    _ = try #require(try await listed.next())

                    host.process.kill(SIGKILL)
                    #expect(try await host.process.exit().code == 128 + SIGKILL)
                    for index in sources.indices {
                        let error = try await failure(of: { try await sources[index].all() })
                        #expect(error.code == .connectionLost, "\(error)")
                    }
                    let error = try await failure(of: { while try await listed.next() != nil {} })
                    #expect(error.code == .connectionLost, "\(error)")
                }
            }
        }
    }
}
