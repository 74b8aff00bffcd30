internal import Chanserv
internal import NIOConcurrencyHelpers

/// One request that a worker serves: what of it is open, and why it was ended if it was.
final class WorkerRequest: Sendable {
    private struct State {
        /// The listing, and each source that was handed out and not closed.
        var open = 1
        var termination: PluginError?
        var sources: [Int: ReceivedFrames] = [:]
        var lastSource = 0
    }

    let process: WorkerProcess
    private let plugin: String
    private let received: ReceivedSources
    private let onEnd: @Sendable (WorkerRequest) -> Void
    private let state = NIOLockedValueBox(State())

    /// - Parameter onEnd: called once, when nothing of the request is open any more.
    init(
        _ received: ReceivedSources, from process: WorkerProcess, plugin: String,
        onEnd: @escaping @Sendable (WorkerRequest) -> Void
    ) {
        self.received = received
        self.process = process
        self.plugin = plugin
        self.onEnd = onEnd
    }

    /// Sources that were handed out and not closed.
    var openSources: Int { state.withLockedValue { $0.sources.count } }

    /// A source as the server pulls from it: its bytes as the worker sends them.
    func relayed(_ source: ReceivedSource) -> Source {
        let (number, termination) = state.withLockedValue { state in
            state.open += 1
            state.lastSource += 1
            state.sources[state.lastSource] = source.frames
            return (state.lastSource, state.termination)
        }
        if termination != nil { source.cancel() }
        let frames = RelayedFrames(source.frames) { error in
            await self.explain(error)
        } onClose: {
            self.sourceEnded(number)
        }
        return Source(header: source.header, producer: frames)
    }

    private func sourceEnded(_ number: Int) {
        let isLast = state.withLockedValue { state in
            state.sources[number] = nil
            state.open -= 1
            return state.open == 0
        }
        if isLast { onEnd(self) }
    }

    /// No more sources are asked for.
    func listingEnded() {
        received.cancel()
        let isLast = state.withLockedValue { state in
            state.open -= 1
            return state.open == 0
        }
        if isLast { onEnd(self) }
    }

    /// Ends the request and all its sources from the host's side.
    func terminate(_ error: PluginError) {
        let sources = state.withLockedValue { state in
            if state.termination == nil { state.termination = error }
            return Array(state.sources.values)
        }
        received.cancel()
        for source in sources { source.cancel() }
    }

    /// What a client is told for `error`, and what it counts for.
    func explain(_ error: ChanservError) async -> any Error {
        if let termination = state.withLockedValue({ $0.termination }) { return termination }
        return await process.explain(error, plugin: plugin)
    }
}

extension WorkerProcess {
    /// What an error on the way to it, or from it, means.
    func explain(_ error: ChanservError, plugin: String) async -> any Error {
        if let cause = error.cause as? ConnectionError, cause.code == .failedByPeer {
            return ErrorEnvelope.error(from: cause.message)
        }
        if error.cause is CancellationError { return CancellationError() }
        switch error.code {
        case .connectionLost, .notFound, .cancelled, .truncatedFrame:
            guard let reason = await reasonForEnd(within: .milliseconds(500)) else {
                return PluginError(.internal, "plugin \(plugin) does not answer: its process \(id) cannot be reached")
            }
            return PluginError(.crashed, "plugin \(plugin) ended: \(reason)")
        case .deadlineExceeded:
            return PluginError(.internal, "plugin \(plugin): its process \(id) did not answer in time")
        default:
            return PluginError(.internal, "plugin \(plugin): \(error)")
        }
    }
}

/// The sources of a request that a worker serves. It can be iterated once; dropping it, or its iterator, ends the listing.
struct WorkerSources: AsyncSequence, Sendable {
    typealias Element = Source

    private let owner: Owner
    private let sources: ReceivedSources

    init(_ request: WorkerRequest, _ sources: ReceivedSources) {
        owner = Owner(request)
        self.sources = sources
    }

    func makeAsyncIterator() -> Iterator { Iterator(owner: owner, sources: sources.makeAsyncIterator()) }

    final class Owner: Sendable {
        let request: WorkerRequest

        init(_ request: WorkerRequest) { self.request = request }

        deinit { request.listingEnded() }
    }

    struct Iterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner
        fileprivate var sources: ReceivedSources.Iterator

        mutating func next() async throws -> Source? {
            do throws(ChanservError) {
                guard let source = try await sources.next() else { return nil }
                return owner.request.relayed(source)
            } catch {
                throw await owner.request.explain(error)
            }
        }
    }
}
