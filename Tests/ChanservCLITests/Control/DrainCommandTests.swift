import Foundation
import TestSupport
import Testing

/// `chanserv drain` and `chanserv enable`.
@Suite struct DrainCommandTests {
    @Test func aDrainedRouteIsGoneFromTheMeshAndComesBack() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let drain = try await host.control("drain", "echo")
            #expect(drain.text == "echo is drained\n")
            #expect(drain.code == 0)
            #expect(try await host.route("echo")["state"] as? String == "drained")
            let gone = try await host.post("echo", "--body", "x", "--timeout", "200ms")
            #expect(gone.code == 69)
            #expect(try await host.post("ticker").code == 0)
            // Again: there is nothing to wait for.
            #expect(try await host.control("drain", "echo").code == 0)

            let enable = try await host.control("enable", "echo")
            #expect(enable.text == "echo is back\n")
            #expect(try await host.post("echo", "--body", "x").text == "[0] x\n")
            #expect(try await host.control("enable", "echo").text == "echo was not away\n")
            #expect(try await host.route("echo")["state"] as? String == "serving")
        }
    }

    @Test func requestsThatRunMayEnd() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 20ms 100", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "tick", count: 1)
            let drain = try await host.control("drain", "ticker")
            // It waited, and the stream was whole.
            #expect(drain.code == 0)
            #expect(drain.text == "ticker is drained\n")
            #expect(drain.errors.contains("waiting for 1 request and 1 source\n"))
            let exit = try await post.exit()
            #expect(exit.code == 0)
            #expect(exit.lines.last == "[0] tick 100")
        }
    }

    @Test func whatDoesNotEndInTimeIsCancelled() async throws {
        let short = TestHost.controlled.replacingOccurrences(
            of: "vaddr: ticker, plugin: ticker", with: "vaddr: ticker, plugin: ticker, drain: 50ms")
        try await TestHost.serving(short) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "tick", count: 1)
            let report = try await host.controlJSON("drain", "ticker")
            #expect(report["result"] as? String == "drained")
            #expect(report["cancelled"] as? Int == 1)
            let exit = try await post.exit()
            #expect(exit.code == 1)
            #expect(exit.errors.contains("the route was drained and its time for that is over"), "\(exit.errors)")
        }
    }

    @Test func enablingEndsADrainAndWhatRunsGoesOn() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "tick", count: 1)
            let drain = try ChanservCommand.start("drain", "ticker", "--config", host.configurationFile)
            defer { drain.end() }
            _ = try await drain.errorLine(with: "waiting for")
            #expect(try await host.route("ticker")["state"] as? String == "draining")
            #expect(try await host.control("enable", "ticker").text == "ticker is back\n")
            let exit = try await drain.exit()
            #expect(exit.code == 1)
            #expect(exit.text.contains("it was enabled meanwhile"))
            let seen = try await post.outputLines(with: "tick", count: 1).count
            _ = try await post.outputLines(with: "tick", count: seen + 5)
            #expect(try await host.post("ticker").code == 0)
        }
    }

    @Test func whoeverWaitsForADrainMayGoAndTheDrainGoesOn() async throws {
        let short = TestHost.controlled.replacingOccurrences(
            of: "vaddr: ticker, plugin: ticker", with: "vaddr: ticker, plugin: ticker, drain: 2s")
        try await TestHost.serving(short) { host in
            let post = try ChanservCommand.start("post", "ticker", "--body", "1 10ms 0", "--join", host.address)
            defer { post.end() }
            _ = try await post.outputLines(with: "tick", count: 1)
            let drain = try ChanservCommand.start("drain", "ticker", "--config", host.configurationFile)
            _ = try await drain.errorLine(with: "waiting for")
            drain.end()
            // The same drain, which ends at its own time.
            let report = try await host.controlJSON("drain", "ticker")
            #expect(report["cancelled"] as? Int == 1)
            #expect(try await post.exit().code == 1)
        }
    }

    @Test func aReloadDoesNotBringADrainedRouteBack() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            #expect(try await host.control("drain", "ticker").code == 0)
            let same = try await host.control("reload")
            #expect(same.code == 0)
            #expect(same.errors.contains("warning: route 'ticker' stays drained: run 'chanserv enable ticker'"))
            // Not even with new code, or another configuration.
            try host.configure(TestHost.controlled.replacingOccurrences(of: "count: 3", with: "count: 4"))
            let changed = try await host.control("reload")
            #expect(changed.text.contains("repointed ticker"))
            #expect(changed.errors.contains("warning: route 'ticker' stays drained"))
            #expect(try await host.route("ticker")["state"] as? String == "drained")
            #expect(try await host.post("ticker", "--timeout", "200ms").code == 69)
            #expect(try await host.control("enable", "ticker").code == 0)
            let answer = try await host.post("ticker")
            #expect(answer.lines.filter { $0.contains("] tick ") }.count == 8)
        }
    }

    @Test func aRouteThatWentAndCameBackIsANewOne() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            #expect(try await host.control("drain", "ticker").code == 0)
            let without = TestHost.controlled.replacingOccurrences(
                of: "  - {vaddr: ticker, plugin: ticker}\n", with: "")
            try host.configure(without)
            #expect(try await host.control("reload").text.contains("removed ticker"))
            try host.configure(TestHost.controlled)
            #expect(try await host.control("reload").text.contains("added ticker"))
            #expect(try await host.post("ticker").code == 0)
        }
    }

    @Test func anUnknownRouteIsAnErrorWithTheNearest() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            for command in ["drain", "enable"] {
                let exit = try await host.control(command, "tikcer")
                #expect(exit.code == 64)
                #expect(exit.errors == "chanserv: there is no route 'tikcer'; did you mean 'ticker'?\n")
                let object = try await host.controlJSON(command, "tikcer")
                let error = try #require(object["error"] as? [String: String])
                #expect(error["code"] == "unknown_vaddr")
                #expect(error["nearest"] == "ticker")
            }
            #expect(try await host.post("ticker").code == 0)
        }
    }
}
