import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// A host that is killed leaves no process behind, whatever its workers are doing.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct DeathWithHost {
        @Test func `every worker ends when the host is killed`() async throws {
            let plugins = ["idle", "streaming", "hang", "loop"]
            let configuration = """
                node: {listen: 127.0.0.1:0}
                defaults: {isolation: process, startup: 10m, preflight: false}
                plugins:
                \(plugins.map { "  \($0): {path: drill.so}" }.joined(separator: "\n"))
                routes:
                \(plugins.map { "  - {vaddr: \($0), plugin: \($0)}" }.joined(separator: "\n"))
                """
            try await ServedHost.serving(configuration) { host in
                try await host.withClient { client in
                    let running = try await client.begun("streaming", "forever 1000 a\ndeaf b")
                    #expect(running.count == 2)
                    var ruined: [Task<Void, any Error>] = []
                    for way in ["hang", "loop"] {
                        let pid = pid_t(try #require(await client.report(way, "stats")["process"]))
                        let worker = ProcessFigures(pid)
                        let used = try worker.processorTime
                        ruined.append(Task { _ = try await client.frames(way, "ruin \(way)") })
                        if way == "hang" {
                            while try !worker.blocksSignals { await Task.yield() }
                        } else {
                            while try worker.processorTime < used + 20 { await Task.yield() }
                        }
                    }
                    // Another worker, which a reload starts, is in its `create`.
                    try #require(mkfifo(host.folder.file("fifo"), 0o600) == 0)
                    try host.configure(
                        configuration.replacingOccurrences(
                            of: "idle: {path: drill.so}", with: "idle: {path: drill.so, config: {fifo: fifo}}"))
                    host.process.kill(SIGHUP)
                    _ = try await host.process.errorLine(with: "create waits")

                    let children = try ProcessFigures(host.process.pid).children
                    #expect(children.count == plugins.count + 1, "\(children)")
                    let ends = try ProcessEnds(children.map(\.pid))
                    host.process.kill(SIGKILL)
                    #expect(await ends.left().isEmpty)
                    #expect(try await host.process.exit().code == 128 + SIGKILL)
                    for task in ruined { await #expect(throws: (any Error).self) { try await task.value } }
                }
            }
        }

        @Test(arguments: BrokenPlugin.Place.allCases)
        func `a preflight ends when the host is killed`(place: BrokenPlugin.Place) async throws {
            let broken = BrokenPlugin(place: place, ruin: .hang)
            let folder = try TestFolder()
            try broken.write(to: folder.file("broken.so"))
            let configuration = """
                node: {listen: 127.0.0.1:0}
                plugins:
                  broken: {path: broken.so, startup: 10m\(broken.config)}
                routes:
                  - {vaddr: broken, plugin: broken}
                """
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            let process = try ChanservCommand.start("serve", "--config", folder.file("chanserv.yaml"))
            defer { process.end() }
            let preflight = try await ProcessFigures(process.pid).child { try $0.blocksSignals }
            let ends = try ProcessEnds([preflight.pid])
            process.kill(SIGKILL)
            #expect(await ends.left().isEmpty)
        }
    }
}
