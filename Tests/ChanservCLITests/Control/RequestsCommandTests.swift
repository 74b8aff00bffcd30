import Foundation
import TestSupport
import Testing

/// Tests `chanserv requests` and `chanserv cancel`.
@Suite struct RequestsCommandTests {
    private static let loaded = TestHost.controlled
        .replacingOccurrences(of: "routes:\n", with: "  load: {path: libLoad.so}\nroutes:\n")
        .appending("  - {vaddr: load, plugin: load}\n")

    private func requests(_ host: TestHost, _ arguments: String...) async throws -> [[String: Any]] {
        let exit = try await ChanservCommand.run(
            ["requests"] + arguments + ["--json", "--config", host.configurationFile])
        let object = try JSONSerialization.jsonObject(with: exit.output) as? [String: Any]
        let requests = try #require(object?["requests"] as? [[String: Any]], "\(exit.text) \(exit.errors)")
        #expect(object?["total"] as? Int == requests.count)
        return requests
    }

    /// Posts an endless request to the ticker and waits until each source has sent a frame.
    private func ticking(_ host: TestHost, sources: Int = 1) async throws -> ChildProcess {
        let post = try ChanservCommand.start("post", "ticker", "--body", "\(sources) 10ms 0", "--join", host.address)
        for source in 0..<sources { _ = try await post.outputLines(with: "[\(source)] tick", count: 1) }
        return post
    }

    @Test func `a host without requests reports that there are none`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            _ = try await host.post("echo", "--body", "x")
            let exit = try await host.control("requests")
            #expect(exit.code == 0)
            #expect(exit.text == "no open requests\n")
            #expect(try await requests(host).isEmpty)
        }
    }

    @Test func `a streaming request is listed until it ends`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try await ticking(host, sources: 3)
            defer { post.end() }
            let request = try #require(try await requests(host).first)
            #expect((request["id"] as? Int ?? 0) > 0)
            #expect(request["vaddr"] as? String == "ticker")
            #expect((request["client"] as? String)?.contains(#/^[\w-]+:\d+$/#) == true)
            #expect(request["sources_open"] as? Int == 3)
            #expect(request["sources_total"] as? Int == 3)
            #expect((request["frames"] as? Int ?? 0) >= 3)
            #expect((request["bytes"] as? Int ?? 0) >= 3 * (8 + 6))
            #expect((request["age_ms"] as? Int ?? -1) >= 0)
            #expect(request["state"] as? String == "sending")

            let text = try await host.control("requests").text
            #expect(text.hasPrefix("ID "))
            #expect(
                text.contains(#/\n\d+ +ticker +[\w-]+:\d+ +[0-9]+ \w+ +3 \/ 3 +\d+ +[\d.]+ \w+ +sending\n$/#), "\(text)"
            )

            #expect(try await host.route("ticker")["requests_open"] as? Int == 1)
            post.kill(SIGINT)
            #expect(try await post.exit().code == 130)
            let watch = try ChanservCommand.start("requests", "--watch", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: "no open requests", count: 1)
        }
    }

    @Test func `requests can be listed by route, and the oldest comes first`() async throws {
        try await TestHost.serving(Self.loaded) { host in
            let first = try await ticking(host)
            defer { first.end() }
            let other = try ChanservCommand.start("post", "load", "--body", "1 2 1 zero 0.001", "--join", host.address)
            defer { other.end() }
            _ = try await other.outputLines(with: "[0]", count: 2)
            let second = try await ticking(host)
            defer { second.end() }
            let all = try await requests(host)
            #expect(all.compactMap { $0["vaddr"] as? String } == ["ticker", "load", "ticker"])
            let ids = all.compactMap { $0["id"] as? Int }
            #expect(ids == ids.sorted())
            #expect(try await requests(host, "ticker").compactMap { $0["id"] as? Int } == [ids[0], ids[2]])
            #expect(try await requests(host, "load").compactMap { $0["id"] as? Int } == [ids[1]])
            #expect(try await requests(host, "echo").isEmpty)
        }
    }

    @Test func `a request whose client does not read is waiting for the client`() async throws {
        try await TestHost.serving(Self.loaded) { host in
            let post = try ChanservCommand.start(
                "post", "load", "--body", "1 4000000000 100000 zero", "--output", "raw", "--join", host.address,
                keepsOutput: true)
            defer { post.end() }
            _ = try await post.outputBytes(1)
            post.kill(SIGSTOP)
            let watch = try ChanservCommand.start(
                "requests", "load", "--watch", "--json", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: #""state":"waiting_for_client""#, count: 1)
            #expect(try await host.control("requests").text.contains(" waiting for the client\n"))
        }
    }

    @Test func `an unknown route is an error with the nearest name`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            for arguments in [["tikcer"], ["tikcer", "--watch"]] {
                let exit = try await ChanservCommand.run(
                    ["requests"] + arguments + ["--config", host.configurationFile])
                #expect(exit.code == 64)
                #expect(exit.errors == "chanserv: there is no route 'tikcer'; did you mean 'ticker'?\n")
                #expect(exit.text == "")
            }
        }
    }

    @Test func `a watch on a pipe appends tables and ends with Ctrl-C`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let watch = try ChanservCommand.start("requests", "--watch", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: "no open requests", count: 1)
            let post = try await ticking(host)
            defer { post.end() }
            _ = try await watch.outputLines(with: " ticker ", count: 2)
            watch.kill(SIGINT)
            let exit = try await watch.exit()
            #expect(exit.code == 0)
            #expect(exit.errors == "")
            #expect(exit.text.contains("\n\nID "))
        }
    }

    @Test func `a watch continues when a reload removes its route`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let watch = try ChanservCommand.start(
                "requests", "ticker", "--watch", "--json", "--config", host.configurationFile)
            defer { watch.end() }
            _ = try await watch.outputLines(with: #"{"requests":[],"total":0}"#, count: 1)
            try host.configure(
                TestHost.controlled.replacingOccurrences(of: "  - {vaddr: ticker, plugin: ticker}\n", with: ""))
            #expect(try await host.control("reload").text.contains("removed ticker"))
            #expect(try await host.control("requests", "ticker").code == 64)
            let seen = try await watch.outputLines(with: #"{"requests":[],"total":0}"#, count: 1).count
            _ = try await watch.outputLines(with: #"{"requests":[],"total":0}"#, count: seen + 2)
        }
    }

    @Test func `requests of a removed route are listed until they end`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try await ticking(host)
            defer { post.end() }
            try host.configure(
                TestHost.controlled.replacingOccurrences(of: "  - {vaddr: ticker, plugin: ticker}\n", with: ""))
            #expect(try await host.control("reload").text.contains("removed ticker"))
            #expect(try await requests(host, "ticker").count == 1)
        }
    }

    // MARK: Cancelling

    @Test(arguments: [
        (["--reason", "maintenance, please post again"], "cancelled by the operator: maintenance, please post again"),
        ([], "cancelled by the operator"),
    ]) func `a cancelled request ends with the reason as error message`(
        options: [String], message: String
    ) async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try await ticking(host, sources: 2)
            defer { post.end() }
            let other = try await ticking(host)
            defer { other.end() }
            let ids = try await requests(host).compactMap { $0["id"] as? Int }
            try #require(ids.count == 2)
            let cancel = try await ChanservCommand.run(
                ["cancel", "\(ids[0])"] + options + ["--config", host.configurationFile])
            #expect(cancel.errors == "")
            #expect(cancel.text == "request \(ids[0]) of ticker is cancelled\n")
            #expect(cancel.code == 0)

            let exit = try await post.exit()
            #expect(exit.code == 1)
            for source in 0..<2 {
                #expect(exit.errors.contains("chanserv: source \(source): \(message)\n"), "\(exit.errors)")
            }
            // The cancellation is not a failure, and the other request continues.
            let route = try await host.route("ticker")
            #expect(route["failures"] as? Int == 0)
            #expect(route["error_mass"] as? Int == 0)
            let seen = try await other.outputLines(with: "tick", count: 1).count
            _ = try await other.outputLines(with: "tick", count: seen + 5)
            #expect(try await requests(host).compactMap { $0["id"] as? Int } == [ids[1]])
            _ = try await host.process.errorLine(with: "request \(ids[0]) was \(message)")
        }
    }

    @Test func `a request to a worker process can be cancelled`() async throws {
        let isolated = TestHost.controlled.replacingOccurrences(
            of: "{path: libTicker.so,", with: "{path: libTicker.so, isolation: process,")
        try await TestHost.serving(isolated) { host in
            let post = try await ticking(host)
            defer { post.end() }
            let id = try #require(try await requests(host).first?["id"] as? Int)
            let report = try await host.controlJSON("cancel", "\(id)", "--reason", "why")
            #expect(report["id"] as? Int == id)
            #expect(report["vaddr"] as? String == "ticker")
            let exit = try await post.exit()
            #expect(exit.code == 1)
            #expect(exit.errors.contains("cancelled by the operator: why"), "\(exit.errors)")
            let ticker = try await host.post("ticker", "--body", "1 1ms 1")
            #expect(ticker.code == 0)
        }
    }

    @Test func `an unknown request is an error`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let exit = try await host.control("cancel", "4711")
            #expect(exit.code == 1)
            #expect(exit.errors == "chanserv: there is no open request 4711\n")
            #expect(exit.text == "")
            let object = try await host.controlJSON("cancel", "4711", "--reason", "x")
            #expect(
                object["error"] as? [String: String]
                    == ["code": "unknown_request", "message": "there is no open request 4711"])
        }
    }

    @Test func `an unknown request does not end the connection`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let client = try RawControlClient(host.socketPath)
            client.send("{\"command\":\"cancel\",\"id\":4711}\n{\"command\":\"requests\"}\n")
            #expect(try await client.errorCode() == "unknown_request")
            #expect((try await client.object()["result"] as? [String: Any])?["total"] as? Int == 0)
        }
    }

    @Test(arguments: [
        ["cancel"], ["cancel", "x"], ["cancel", "-1"], ["cancel", "1", "--reason", ""],
        ["cancel", "1", "--reason", String(repeating: "x", count: 1_025)], ["requests", ""], ["requests", "a", "b"],
    ]) func `a wrong command line is an error with a message`(arguments: [String]) async throws {
        let exit = try await ChanservCommand.run(arguments + ["--socket", "none.sock"])
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: "))
    }

    @Test func `without a host the commands exit with 69`() async throws {
        try await withTemporaryFolder { folder in
            for command in [["requests"], ["requests", "--watch"], ["cancel", "1"]] {
                let exit = try await ChanservCommand.run(command + ["--socket", folder + "/none.sock"])
                #expect(exit.code == 69)
                #expect(exit.errors.contains("no host answers at '\(folder)/none.sock'"))
            }
        }
    }

    // MARK: Limits

    @Test func `requests above the concurrent limit are refused as busy until one ends`() async throws {
        let limited = TestHost.controlled.replacingOccurrences(
            of: "vaddr: ticker, plugin: ticker", with: "vaddr: ticker, plugin: ticker, limits: {concurrent: 2}")
        try await TestHost.serving(limited) { host in
            let first = try await ticking(host)
            defer { first.end() }
            let second = try await ticking(host)
            defer { second.end() }
            let refused = try await host.post("ticker", "--body", "1 1ms 1")
            #expect(refused.code == 69)
            #expect(
                refused.errors.contains("busy: ticker has reached its limit of 2 open requests"), "\(refused.errors)"
            )
            #expect(try await host.post("echo", "--body", "x").code == 0)
            let route = try await host.route("ticker")
            #expect(route["requests_open"] as? Int == 2)
            #expect(route["requests_total"] as? Int == 2)
            #expect(route["requests_refused"] as? Int == 1)
            #expect(route["failures"] as? Int == 0)
            #expect(try await host.control("status").text.contains(#/\nticker +\S+ +serving +2 / 2 +1 busy +/#))

            let id = try #require(try await requests(host).first?["id"] as? Int)
            #expect(try await host.control("cancel", "\(id)").code == 0)
            #expect(try await first.exit().code == 1)
            #expect(try await host.post("ticker", "--body", "1 1ms 1").code == 0)

            // A reload that only changes the limit keeps the instance.
            try host.configure(limited.replacingOccurrences(of: "concurrent: 2", with: "concurrent: 1"))
            #expect(try await host.control("reload").text == "generation 2: updated ticker; 2 untouched\n")
            #expect(try await host.post("ticker", "--body", "1 1ms 1").code == 69)
        }
    }
}
