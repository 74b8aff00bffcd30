import Testing

@testable import Chanserv

/// A source that a client fetches by its name, and whose server takes its time to answer the dial.
@Suite(.timeLimit(.minutes(5))) struct SourceReceiverTests {
    /// A source whose name was announced, and which was dialled.
    private struct Dialled {
        let network = FakeNetwork()
        let journal = Journal()
        let receiver: SourceReceiver
        let connection: FakeConnection

        init() throws {
            receiver = SourceReceiver("source", network, Client.Configuration(), deadline: nil) { [journal] in
                journal.add("dialled")
            }
            receiver.dial(from: FakeConnection())
            connection = try #require(network.dialled.first)
        }
    }

    @Test func `a source that is given up after the deadline of its dial does not wait for the answer`() throws {
        let source = try Dialled()
        source.network.clock.advance(by: .seconds(20))
        #expect(source.connection.end == nil && source.journal.all.isEmpty)
        source.receiver.cancel()
        source.network.clock.advance(by: .zero)
        #expect(source.connection.end == .closed && source.journal.all == ["dialled"])
    }

    @Test func `a source that was answered in time goes on`() throws {
        let source = try Dialled()
        source.connection.answer()
        source.network.clock.advance(by: .seconds(20))
        #expect(source.connection.end == nil && source.journal.all == ["dialled"])
        source.receiver.cancel()
        #expect(source.connection.end == .closed && source.journal.all == ["dialled"])
    }

    @Test(arguments: [true, false]) func `a source that was given up ends with the answer or the deadline`(
        isAnswered: Bool
    ) throws {
        let source = try Dialled()
        source.receiver.cancel()
        #expect(source.connection.end == nil && source.journal.all.isEmpty)
        if isAnswered { source.connection.answer() } else { source.network.clock.advance(by: .seconds(10)) }
        #expect(source.connection.end == .closed && source.journal.all == ["dialled"])
    }
}
