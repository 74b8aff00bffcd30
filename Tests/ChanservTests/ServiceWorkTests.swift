import Testing

@testable import Chanserv

/// The list of what a service does, by itself.
@Suite(.timeLimit(.minutes(5))) struct ServiceWorkTests {
    private let journal = Journal()

    private func noteCancellation(_ journal: Journal) async {
        do { try await never() } catch { journal.add("cancelled") }
    }

    @Test func aSourceThatIsGivenUpBeforeItsWaitBeginsDoesNotWait() async throws {
        let work = ServiceWork()
        let id = work.add(.announced, generation: 0)
        work.cancelAnnounced(id)
        work.run(id, on: nil) { [journal] in await noteCancellation(journal) }
        try await journal.wait(for: "cancelled")
    }

    @Test func aSourceThatWasFetchedIsNotGivenUp() async throws {
        let work = ServiceWork()
        let id = work.add(.announced, generation: 0)
        work.cancelAnnounced(id)
        work.accepted(id)
        work.run(id, on: nil) { [journal] in
            journal.add(Task.isCancelled ? "cancelled" : "sent")
        }
        try await journal.wait(for: "sent")
        work.cancelAnnounced(id)
        #expect(work.reason(id) == nil)
        work.ended(id)
        #expect(await work.waitUntilIdle(through: .max, deadline: .now) == 0)
    }
}
