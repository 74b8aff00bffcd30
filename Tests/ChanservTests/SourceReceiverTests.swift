import Chanserv
import Testing

/// A named source whose server answers the dial late or not at all.
@Suite(.timeLimit(.minutes(5))) struct SourceReceiverTests {
    /// A source that was announced and dialled. The dial is not answered yet.
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

    @Test func `a source that is cancelled after its dial deadline does not wait for the answer`() throws {
        let source = try Dialled()
        source.network.clock.advance(by: .seconds(20))
        #expect(source.connection.end == nil && source.journal.all.isEmpty)
        source.receiver.cancel()
        source.network.clock.advance(by: .zero)
        #expect(source.connection.end == .closed && source.journal.all == ["dialled"])
    }

    @Test func `a source whose dial is answered in time continues`() throws {
        let source = try Dialled()
        source.connection.answer()
        source.network.clock.advance(by: .seconds(20))
        #expect(source.connection.end == nil && source.journal.all == ["dialled"])
        source.receiver.cancel()
        #expect(source.connection.end == .closed && source.journal.all == ["dialled"])
    }

    @Test(arguments: [true, false])
    func `a source that is cancelled while it dials ends with the answer or at the deadline`(isAnswered: Bool) throws {
        let source = try Dialled()
        source.receiver.cancel()
        #expect(source.connection.end == nil && source.journal.all.isEmpty)
        if isAnswered { source.connection.answer() } else { source.network.clock.advance(by: .seconds(10)) }
        #expect(source.connection.end == .closed && source.journal.all == ["dialled"])
    }
}
