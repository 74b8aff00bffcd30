import PluginRuntime
import Testing

@Suite("Turns and inline calls")
struct TurnStateTests {
    private func state(_ phase: TurnState.Phase) -> TurnState {
        var state = TurnState()
        switch phase {
        case .idle: break
        case .scheduled: _ = state.request()
        case .running(let again):
            _ = state.request()
            state.begin()
            if again { _ = state.request() }
        }
        return state
    }

    @Test(
        arguments: [
            (.idle, .scheduled, .schedule),
            (.scheduled, .scheduled, .doNothing),
            (.running(again: false), .running(again: true), .doNothing),
            (.running(again: true), .running(again: true), .doNothing),
        ] as [(TurnState.Phase, TurnState.Phase, TurnState.Request)])
    func `an event schedules a turn unless one is scheduled or running`(
        before: TurnState.Phase, after: TurnState.Phase, answer: TurnState.Request
    ) {
        var state = state(before)
        #expect(state.phase == before)
        let request = state.request()
        #expect(request == answer)
        #expect(state.phase == after)
    }

    @Test func `a scheduled turn begins`() {
        var state = state(.scheduled)
        state.begin()
        #expect(state.phase == .running(again: false))
    }

    @Test(
        arguments: [
            (false, false, .idle, .doNothing), (false, true, .scheduled, .schedule),
            (true, false, .scheduled, .schedule),
            (true, true, .scheduled, .schedule),
        ] as [(Bool, Bool, TurnState.Phase, TurnState.Request)])
    func `a turn is followed by another one if it wants more or an event arrived during it`(
        again: Bool, wantsMore: Bool, after: TurnState.Phase, answer: TurnState.Request
    ) {
        var state = state(.running(again: again))
        let request = state.end(wantsMore: wantsMore)
        #expect(request == answer)
        #expect(state.phase == after)
    }

    @Test func `beginning a turn that is not scheduled traps`() async {
        await #expect(processExitsWith: .failure) {
            var state = TurnState()
            state.begin()
        }
        await #expect(processExitsWith: .failure) {
            var state = TurnState()
            _ = state.request()
            state.begin()
            state.begin()
        }
    }

    @Test func `ending a turn that does not run traps`() async {
        await #expect(processExitsWith: .failure) {
            var state = TurnState()
            _ = state.end(wantsMore: false)
        }
        await #expect(processExitsWith: .failure) {
            var state = TurnState()
            _ = state.request()
            _ = state.end(wantsMore: false)
        }
    }

    // MARK: - Inline calls

    private let longest = InlineCalls.longest
    private let first = InlineCalls.firstPause

    @Test func `a call of at most a millisecond is no strike`() {
        var calls = InlineCalls()
        for duration in [0, 1, longest] {
            let pause = calls.took(duration, now: 10_000_000_000)
            #expect(pause == nil)
        }
        #expect(calls == InlineCalls())
        #expect(calls.isAllowed(now: 0))
    }

    @Test func `a strike disallows inline calls for exactly its pause`() {
        var calls = InlineCalls()
        let now: UInt64 = 5_000_000_000
        let pause = calls.took(longest + 1, now: now)
        #expect(pause == first)
        #expect(!calls.isAllowed(now: now))
        #expect(!calls.isAllowed(now: now + first - 1))
        #expect(calls.isAllowed(now: now + first))
    }

    @Test func `the pause doubles with each strike that follows soon, up to a minute`() {
        var calls = InlineCalls()
        var now: UInt64 = 1
        var pauses: [UInt64] = []
        for _ in 0..<14 {
            let pause = calls.took(longest * 2, now: now)
            pauses.append(pause ?? 0)
            now += pauses.last! + 1
        }
        #expect(Array(pauses.prefix(4)) == [first, first * 2, first * 4, first * 8])
        #expect(pauses.last == InlineCalls.longestPause)
        #expect(zip(pauses, pauses.dropFirst()).allSatisfy { $1 == min($0 * 2, InlineCalls.longestPause) })
    }

    @Test func `a strike long after the last one has the first pause again`() {
        var calls = InlineCalls()
        var now: UInt64 = 1
        for _ in 0..<3 {
            _ = calls.took(longest + 1, now: now)
            now += first
        }
        // The last pause was 400 ms.
        now += 2 * 4 * first + InlineCalls.longestPause
        let pause = calls.took(longest + 1, now: now)
        #expect(pause == first)
    }

    @Test func `a strike just before the pause is reset still doubles it`() {
        var calls = InlineCalls()
        _ = calls.took(longest + 1, now: 1)
        let pause = calls.took(longest + 1, now: 1 + 2 * first + InlineCalls.longestPause)
        #expect(pause == 2 * first)
    }
}
