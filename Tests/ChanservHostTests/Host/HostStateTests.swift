import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import Foundation
import NIOConcurrencyHelpers
import Testing

/// A reload that fails at any step changes neither the status of the host nor its offers.
@Suite(.timeLimit(.minutes(2))) struct HostStateTests {
    /// The step at which the reload fails. The reload creates four instances, one of them for an existing route, and
    /// binds three routes.
    enum Step: Hashable, CustomStringConvertible {
        case reading, validating, findingTheLibrary, checkingThePin, recognisingTheLibrary, readingTheDescriptor,
            preflight
        case creating(Int), binding(Int)

        static let all: [Step] =
            [.reading, .validating, .findingTheLibrary, .checkingThePin, .recognisingTheLibrary, .readingTheDescriptor]
            + [.preflight] + (0...3).map(Step.creating) + (1...3).map(Step.binding)

        var description: String {
            switch self {
            case .reading: "reading"
            case .validating: "validating"
            case .findingTheLibrary: "finding the library"
            case .checkingThePin: "checking the pin"
            case .recognisingTheLibrary: "recognising the library"
            case .readingTheDescriptor: "reading the descriptor"
            case .preflight: "preflight"
            case .creating(let number): "creating instance \(number)"
            case .binding(let number): "binding route \(number)"
            }
        }

        /// The text that the reason must contain.
        var reason: String {
            switch self {
            case .reading: "chanserv.yaml:"
            case .validating: "plugn"
            case .findingTheLibrary: "nowhere.so"
            case .checkingThePin: "SHA-256"
            case .recognisingTheLibrary: "ELF"
            case .readingTheDescriptor: "ABI"
            case .preflight: "SIGABRT"
            case .creating(let number): "told to fail: at \(number)"
            case .binding(let number): "the test refuses new\(number)"
            }
        }
    }

    /// The state of a host, without the values that requests change.
    private struct Dump: Equatable {
        var status: HostStatus
        var offered: [String]

        init(_ fixture: HostFixture, _ node: Node, _ client: Client) async throws {
            // The answer arrives after all announcements that the host sent before it.
            _ = try await client.version("other")
            offered = node.services.map(\.name).filter { !$0.contains("master:") && !$0.contains("chan") }.sorted()
            var status = await fixture.host.status
            // The request above is answered. Its end follows.
            while status.requestsByGeneration.reduce(0, { $0 + $1.requests }) > 1
                || status.routes.contains(where: Self.isBusy)
            {
                await Task.yield()
                status = await fixture.host.status
            }
            for index in status.routes.indices where status.routes[index].vaddr == "other" {
                status.routes[index].requestsTotal = 0
                status.routes[index].sourcesTotal = 0
                status.routes[index].frames = 0
                status.routes[index].bytes = 0
            }
            for index in status.plugins.indices where status.plugins[index].plugin == "b" {
                status.plugins[index].callsTotal = 0
                status.plugins[index].frames = 0
            }
            // Reloads and the uptime are expected to change.
            status.reloads = HostStatus.Reloads(changed: 0, unchanged: 0, refused: 0)
            status.lastReload = nil
            status.uptimeMilliseconds = 0
            self.status = status
        }

        private static func isBusy(_ route: HostStatus.Route) -> Bool {
            route.vaddr == "other" && (route.requestsOpen > 0 || route.sourcesOpen > 0)
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a reload that fails at any step changes nothing`(isolation: Isolation) async throws {
        let refusing = NIOLockedValueBox<RefusingMultiplexer?>(nil)
        let fixture = try HostFixture(isolation, preflight: true) { node, logger in
            let network = RefusingHostNetwork(AstraNetHostNetwork(node, logger: logger))
            refusing.withLockedValue { $0 = network.refusing }
            return network
        }
        try fixture.install("v1")
        try fixture.install("b1", as: "b.so")
        let before = (
            plugins: "a: {path: a.so}\nb: {path: b.so}",
            routes: "- {vaddr: stream, plugin: a}\n- {vaddr: other, plugin: b}"
        )
        try fixture.configure(plugins: before.plugins, routes: before.routes)
        try await fixture.host.start()
        let multiplexer = try #require(refusing.withLockedValue { $0 })
        let node = try await fixture.connect()
        let client = Client(multiplexer: AstraNetMultiplexer(node))
        // An open request holds the instance, so that every change of the instance is visible.
        let held = try await client.source("stream", "hold")
        var frames = held.frames.makeAsyncIterator()
        #expect(try await frames.next()?.string == "v1")
        // Workers report their statistics periodically.
        while await fixture.host.status.plugins.first?.frames != 1 { await Task.yield() }
        var expected = try await Dump(fixture, node, client)

        for step in Step.all {
            try makeFail(step, fixture, before)
            multiplexer.refuse(nil)
            if case .binding(let number) = step { multiplexer.refuse("new\(number)") }
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .refused, "\(step)")
            #expect(outcome.reasons.contains { $0.contains(step.reason) }, "\(step): \(outcome.reasons)")
            let dump = try await Dump(fixture, node, client)
            // The host never unloads a library, whether it is used or not.
            expected.status.retained.copies = dump.status.retained.copies
            expected.status.retained.bytes = dump.status.retained.bytes
            #expect(dump == expected, "\(step)")
            #expect(dump.status.retained.copies <= (isolation == .host ? 2 + Step.all.count : 0), "\(step)")
        }

        // Without a mistake the reload succeeds.
        multiplexer.refuse(nil)
        try makeFail(nil, fixture, before)
        let outcome = await fixture.host.reload()
        #expect(outcome.result == .changed, "\(outcome.reasons)")
        #expect(outcome.changes.added == ["new1", "new2", "new3"] && outcome.changes.repointed == ["stream"])
        held.cancel()
        await node.shutdown()
        await fixture.host.shutdown(drain: .zero)
        let created = fixture.log.count(of: "] created ")
        await fixture.expectLogged("] destroyed ", times: created)
    }

    /// Writes the files with which a reload fails at `step`; `nil` for a reload that succeeds.
    private func makeFail(_ step: Step?, _ fixture: HostFixture, _ before: (plugins: String, routes: String)) throws {
        var plugins = before.plugins
        var failing: Int?
        try fixture.install("v\(step.map { 10 + (Step.all.firstIndex(of: $0) ?? 0) } ?? 2)")
        switch step {
        case .reading: return try fixture.write("chanserv.yaml", "routes: [")
        case .validating: return try fixture.configure(plugins: plugins, routes: "- {vaddr: stream, plugn: a}")
        case .findingTheLibrary: plugins = plugins.replacingOccurrences(of: "a.so", with: "nowhere.so")
        case .checkingThePin:
            plugins = plugins.replacingOccurrences(
                of: "a.so", with: "a.so, sha256: \"\(String(repeating: "0", count: 64))\"")
        case .recognisingTheLibrary: try fixture.write("a.so", "#!/bin/sh\n")
        case .readingTheDescriptor: try fixture.install("v3", options: ["-DMAJOR=7"])
        case .preflight: try fixture.install("v3", options: ["-DCRASH"])
        case .creating(let number): failing = number
        case .binding, nil: break
        }
        func config(_ number: Int) -> String {
            failing == number ? "config: {fail: at \(number)}" : "config: {label: number \(number)}"
        }
        let added = (1...3).map { "- {vaddr: new\($0), plugin: a, \(config($0))}" }
        let routes = ["- {vaddr: stream, plugin: a, \(config(0))}", "- {vaddr: other, plugin: b}"] + added
        try fixture.configure(plugins: plugins, routes: routes.joined(separator: "\n"))
    }
}
