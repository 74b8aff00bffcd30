import Chanserv
import ChanservHost
import Foundation
import HostConfiguration
import Testing

@Suite(.timeLimit(.minutes(2))) struct HostReloadTests {
    @Test(arguments: Isolation.allCases)
    func `a host serves the configured routes and logs its address`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            #expect(try await client.stream(count: 10_000) == "v1")
            let status = await fixture.host.status
            #expect(status.generation == 1)
            #expect(status.routes.map(\.vaddr) == ["stream"])
            #expect(status.plugins.map(\.version) == ["v1"])
            #expect(status.retained.copies == (isolation == .host ? 1 : 0))
            let port = try await fixture.port
            #expect(port != 0)
            #expect(fixture.log.count(of: "info ready: listening on 127.0.0.1:\(port), serving stream") == 1)
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a reload serves a new library and destroys the old instance`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            #expect(try await client.version() == "v1")
            try fixture.install("v2")
            #expect(try await client.version() == "v1")
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .changed)
            #expect(outcome.changes.repointed == ["stream"])
            #expect(outcome.generation == 2)
            #expect(try await client.version() == "v2")
            await fixture.log.wait(for: "destroyed v1")
            #expect(fixture.log.count(of: "info reloading") == 1)
            #expect(fixture.log.count(of: "reload: repointed stream; created a@") == 1)
        }
        await fixture.expectLogged("destroyed v2", times: 1)
    }

    @Test(arguments: Isolation.allCases)
    func `a running stream ends on the library that it began with`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            // More frames than the windows hold: most of them are produced after the swap.
            let count = 400_000
            let old = try await client.source("stream", "stream \(count)")
            var frames = old.frames.makeAsyncIterator()
            #expect(try await frames.next()?.string == "v1 0")
            try fixture.install("v2")
            #expect(await fixture.host.reload().result == .changed)
            #expect(try await client.version() == "v2")
            let status = await fixture.host.status
            #expect(status.plugins.map(\.draining) == [false, true])
            #expect(status.requestsByGeneration.first { $0.generation == 1 }?.requests == 1)
            for index in 1..<count {
                let frame = try await frames.next()
                if frame?.string != "v1 \(index)" { try #require(frame?.string == "v1 \(index)") }
            }
            #expect(try await frames.next() == nil)
            await fixture.log.wait(for: "destroyed v1")
        }
    }

    @Test(arguments: ["CHANSERV_PLUGIN_SERIAL", "CHANSERV_PLUGIN_BLOCKING"], Isolation.allCases)
    func `a reload replaces serial and blocking plugins`(flags: String, isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1", options: ["-DFLAGS=\(flags)"])
        try fixture.configure()
        try await fixture.serving { client in
            let running = try await client.source("stream", "stream 50000")
            try fixture.install("v2", options: ["-DFLAGS=\(flags)"])
            #expect(await fixture.host.reload().result == .changed)
            #expect(try await client.version() == "v2")
            #expect(try await running.expectStream(from: 0, count: 50_000) == "v1")
            await fixture.log.wait(for: "destroyed v1")
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a reload with a new library restores a withdrawn route at once`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure(routes: "- {vaddr: stream, plugin: a, error_mass: {limit: 1, pause: 1h, max_pause: 1h}}")
        try await fixture.serving { client in
            await #expect(throws: ChanservError.self) { _ = try await client.source("stream", "fail") }
            await fixture.log.wait(for: "route 'stream' withdrawn for")
            try fixture.install("v2")
            #expect(await fixture.host.reload().changes.repointed == ["stream"])
            #expect(try await client.version() == "v2")
            #expect(await fixture.host.status.routes.map(\.state) == [.serving])
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a reload without changes touches nothing`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            let held = try await client.source("stream", "hold")
            // The same configuration, written differently.
            try fixture.configure(plugins: "a: {config: {}, path: ./a.so}")
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .unchanged && outcome.generation == 1)
            #expect(outcome.changes.untouched == ["stream"])
            await fixture.expectLogged("created", times: 1)
            await fixture.expectLogged("destroyed", times: 0)
            #expect(await fixture.host.status.plugins.first?.sourcesOpen == 1)
            held.cancel()
        }
    }

    @Test(arguments: Isolation.allCases)
    func `unchanged routes keep their instances and streams`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.install("b1", as: "b.so")
        let plugins = "a: {path: a.so}\nb: {path: b.so, config: {label: bee}}"
        let routes = "- {vaddr: stream, plugin: a}\n- {vaddr: other, plugin: b}\n- {vaddr: third, plugin: b}"
        try fixture.configure(plugins: plugins, routes: routes)
        try await fixture.serving { client in
            await fixture.expectLogged("created bee", times: 1)
            let held = try await client.source("other", "hold")
            var frames = held.frames.makeAsyncIterator()
            #expect(try await frames.next()?.string == "b1")
            for version in ["v2", "v3", "v4"] {
                try fixture.install(version)
                let outcome = await fixture.host.reload()
                #expect(outcome.changes.repointed == ["stream"])
                #expect(outcome.changes.untouched == ["other", "third"])
                #expect(try await client.version() == version)
                #expect(try await client.version("third") == "b1")
            }
            await fixture.expectLogged("created bee", times: 1)
            await fixture.expectLogged("destroyed bee", times: 0)
            #expect(await fixture.host.status.requestsByGeneration.first { $0.generation == 1 }?.requests == 1)
            held.cancel()
        }
    }

    @Test(arguments: Isolation.allCases)
    func `changed options apply without a new instance`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            let held = try await client.source("stream", "hold")
            try fixture.configure(routes: "- {vaddr: stream, plugin: a, compression: true}")
            let outcome = await fixture.host.reload()
            #expect(outcome.changes.updated == ["stream"] && outcome.changes.created.isEmpty)
            #expect(await fixture.host.routes.running.first?.service.configuration.compression == true)
            #expect(try await client.stream(count: 1000) == "v1")
            await fixture.expectLogged("created", times: 1)
            await fixture.expectLogged("destroyed", times: 0)
            held.cancel()
        }
    }

    @Test func `a reload applies a changed node.drain`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { _ in
            try fixture.configure(top: "node: {listen: \"127.0.0.1:0\", drain: 7s}")
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .changed && outcome.generation == 1)
            #expect(outcome.warnings.isEmpty, "\(outcome.warnings)")
            #expect("\(outcome.changes)" == "changed node.drain; 1 untouched")
            #expect(await fixture.host.applier.configuration?.node.drain == .seconds(7))
            #expect(await fixture.host.reload().result == .unchanged)
        }
    }

    @Test func `an instance that is replaced under the same name is reported as restarted`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { _ in
            try fixture.configure(plugins: "a: {path: a.so, config: {label: other}}")
            let outcome = await fixture.host.reload()
            let name = try #require(outcome.changes.created.first)
            #expect(outcome.changes.retired == [name])
            #expect("\(outcome.changes)" == "repointed stream; restarted \(name); 0 untouched")
            #expect(try JSONDecoder().decode(ReloadOutcome.self, from: Data(ControlJSON.line(outcome))) == outcome)
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a route with its own config has its own instance`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        let routes = "- {vaddr: stream, plugin: a}\n- {vaddr: twin, plugin: a}\n"
        try fixture.configure(routes: routes + "- {vaddr: own, plugin: a, config: {label: own}}")
        try await fixture.serving { client in
            await fixture.expectLogged("created v1", times: 1)
            await fixture.expectLogged("created own", times: 1)
            try fixture.configure(routes: routes + "- {vaddr: own, plugin: a, config: {label: mine}}")
            let outcome = await fixture.host.reload()
            #expect(outcome.changes.repointed == ["own"])
            #expect(outcome.changes.untouched == ["stream", "twin"])
            await fixture.log.wait(for: "destroyed own")
            await fixture.expectLogged("created mine", times: 1)
            await fixture.expectLogged("destroyed v1", times: 0)
            // The same bytes are not loaded again.
            #expect(await fixture.host.status.retained.copies == (isolation == .host ? 1 : 0))
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a removed route is withdrawn and its streams end without an error`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.install("b1", as: "b.so")
        try fixture.configure(
            plugins: "a: {path: a.so}\nb: {path: b.so}",
            routes: "- {vaddr: stream, plugin: a}\n- {vaddr: gone, plugin: b}")
        try await fixture.serving { client in
            let count = 300_000
            let running = try await client.source("gone", "stream \(count)")
            try fixture.configure()
            let outcome = await fixture.host.reload()
            #expect(outcome.changes.removed == ["gone"])
            var configuration = client.configuration
            configuration.dialTimeout = .milliseconds(300)
            let second = Client(multiplexer: client.multiplexer, configuration: configuration)
            await #expect(throws: ChanservError.self) { _ = try await second.lookupAndPost("gone", body: "stream 1") }
            #expect(try await running.expectStream(from: 0, count: count) == "b1")
            await fixture.log.wait(for: "destroyed b1")
            #expect(try await client.version() == "v1")
        }
    }

    @Test(arguments: Isolation.allCases)
    func `a route that is added again is served while its old instance drains`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        let other = "- {vaddr: other, plugin: a, config: {label: other}}"
        try fixture.configure(routes: "- {vaddr: stream, plugin: a}\n\(other)")
        try await fixture.serving { client in
            let held = try await client.source("stream", "hold")
            try fixture.configure(routes: other)
            #expect(await fixture.host.reload().changes.removed == ["stream"])
            try fixture.configure(routes: "- {vaddr: stream, plugin: a}\n\(other)")
            #expect(await fixture.host.reload().changes.added == ["stream"])
            // A new client, because an existing one may still dial the withdrawn offer.
            try await fixture.withClient { other in try await other.stream(count: 1000) }
            #expect(await fixture.host.status.plugins.map(\.draining) == [false, false, true])
            held.cancel()
            await fixture.log.wait(for: "destroyed v1")
        }
    }

    @Test(arguments: Isolation.allCases)
    func `streams that run at the drain deadline are cancelled with the reason`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure(routes: "- {vaddr: stream, plugin: a, drain: 50ms}")
        try await fixture.serving { client in
            let held = try await client.source("stream", "hold")
            var frames = held.frames.makeAsyncIterator()
            #expect(try await frames.next()?.string == "v1")
            try fixture.install("v2")
            #expect(await fixture.host.reload().result == .changed)
            let error = await #expect(throws: ChanservError.self) { _ = try await frames.next() }
            #expect(error?.message.contains("replaced") == true)
            await fixture.log.wait(for: "destroyed v1")
            // The cancellation does not count as a failure of the plugin.
            #expect(await fixture.host.status.routes.first?.failures == 0)
        }
    }

    @Test func `changes that need a restart are warnings and all others are applied`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            try fixture.install("v2")
            try fixture.configure(top: "node: {listen: \"127.0.0.1:1\", environment: staging, join: \"127.0.0.1:2\"}")
            let outcome = await fixture.host.reload()
            #expect(outcome.result == .changed && outcome.warnings.count == 3)
            for key in ["listen", "join", "environment"] {
                #expect(fixture.log.count(of: "node.\(key) is now") == 1)
            }
            #expect(try await client.version() == "v2")
        }
    }
}
