import Chanserv
import ChanservHost
import TestSupport
import Testing

/// Reloads, drains, status and shutdown of a host at the same time.
@Suite(.timeLimit(.minutes(2))) struct HostInterleavingTests {
    /// A host with two plugins and two routes.
    private func fixture() throws -> HostFixture {
        let fixture = try HostFixture()
        try fixture.install("a1", as: "a.so")
        try fixture.install("b1", as: "b.so")
        try configure(fixture, first: "a", second: "b")
        return fixture
    }

    private func configure(_ fixture: HostFixture, first: String, second: String, more: String = "") throws {
        try fixture.configure(
            plugins: "a: {path: a.so}\nb: {path: b.so}",
            routes: "- {vaddr: first, plugin: \(first)}\n- {vaddr: second, plugin: \(second)}\n\(more)")
    }

    @Test func `a status during reloads shows each route with its instance`() async throws {
        let fixture = try fixture()
        try await fixture.host.start()
        try await withThrowingTaskGroup { group in
            group.addTask {
                for turn in 1...20 {
                    // Each reload adds or removes a route, and retires or creates an instance.
                    let isEven = turn.isMultiple(of: 2)
                    try configure(
                        fixture, first: "a", second: isEven ? "b" : "a",
                        more: isEven ? "" : "- {vaddr: third, plugin: a}")
                    #expect(await fixture.host.reload().result == .changed)
                }
            }
            group.addTask {
                var generations: Set<UInt64> = []
                while !generations.contains(21) {
                    let status = await fixture.host.status
                    generations.insert(status.generation)
                    let isEven = status.generation.isMultiple(of: 2)
                    let vAddrs = isEven ? ["first", "second", "third"] : ["first", "second"]
                    #expect(status.routes.map(\.vaddr) == vAddrs)
                    #expect(status.routes.map(\.plugin) == (isEven ? ["a", "a", "a"] : ["a", "b"]))
                    let current = status.plugins.filter { !$0.draining }
                    #expect(current.map(\.plugin) == (isEven ? ["a"] : ["a", "b"]))
                    #expect(status.reloads.changed < Int(status.generation))
                    // With one processor the loop would otherwise never let the reloads run.
                    await Task.yield()
                }
            }
            try await group.waitForAll()
        }
        await fixture.host.shutdown(drain: .zero)
    }

    @Test func `a shutdown during reloads and drains destroys each instance once`() async throws {
        let fixture = try fixture()
        try await fixture.host.start()
        await withThrowingTaskGroup { group in
            group.addTask {
                var turn = 0
                while true {
                    turn += 1
                    try configure(fixture, first: "a", second: turn.isMultiple(of: 2) ? "b" : "a")
                    // The host refuses reloads once it stops.
                    if await fixture.host.reload().result == .refused { return }
                }
            }
            group.addTask {
                do throws(RouteError) {
                    while true {
                        let drain = try await fixture.host.beginDrain("second")
                        try await fixture.host.enable("second")
                        _ = await drain.value
                        await Task.yield()
                    }
                } catch {
                    #expect(error.reason == .stopping)
                }
            }
            await fixture.log.wait(for: "reload: ", count: 5)
            await fixture.host.shutdown(drain: .seconds(60))
        }
        for version in ["a1", "b1"] {
            #expect(fixture.log.count(of: "created \(version)") == fixture.log.count(of: "destroyed \(version)"))
        }
        #expect(await fixture.host.status.plugins.isEmpty)
        #expect(await fixture.host.status.routes.isEmpty)
        await fixture.expectLogged("info stopped", times: 1)
    }
}
