import NIOConcurrencyHelpers
import Synchronization

/// The end of one request, for an access log.
package struct RequestSummary: Sendable, Hashable {
    package enum Result: String, Sendable, CaseIterable {
        /// All sources were sent.
        case ok
        /// The server, or the code that serves the request, reported an error.
        case failed
        /// The client went away or ended a source early, or an operator or the end of the service ended the request.
        case cancelled
        /// A deadline has passed.
        case timeout
        /// The request was not accepted.
        case refused
    }

    /// See ``OpenRequest/id``; `nil` if the request was refused.
    package var id: UInt64?
    package var vAddr: String
    /// The address of the client in the network's notation.
    package var client: String
    /// The `ip:port` of the client, or of the router through which it came; `nil` if the network has none.
    package var clientAddress: String?
    /// The verified name of the client; empty if it has proved none.
    package var identity: String
    package var result: Result
    /// The error, or the reason of the end; `nil` for `ok`.
    package var reason: String?
    package var sources: Int
    package var frames: Int
    /// The encoded bytes of the frames.
    package var bytes: Int
    /// The time from the beginning of the request to its first frames; `nil` if there were none.
    package var firstFrame: Duration?
    /// The time from the beginning of the request to its end.
    package var duration: Duration

    package init(
        id: UInt64?, vAddr: String, client: String, clientAddress: String?, identity: String = "", result: Result,
        reason: String?, sources: Int = 0, frames: Int = 0, bytes: Int = 0, firstFrame: Duration? = nil,
        duration: Duration = .zero
    ) {
        self.id = id
        self.vAddr = vAddr
        self.client = client
        self.clientAddress = clientAddress
        self.identity = identity
        self.result = result
        self.reason = reason
        self.sources = sources
        self.frames = frames
        self.bytes = bytes
        self.firstFrame = firstFrame
        self.duration = duration
    }
}

/// Passes the end of each request to an access log, if there is one.
package final class RequestLog: Sendable {
    package typealias Handler = @Sendable (RequestSummary) -> Void

    private let hasHandler = Atomic<Bool>(false)
    private let handler = NIOLockedValueBox<Handler?>(nil)

    /// Whether requests are logged.
    var isOn: Bool { hasHandler.load(ordering: .relaxed) }

    /// Sets the handler for requests that end from now on; `nil` for none. It is called on network threads and must not
    /// block.
    package func set(_ handler: Handler?) {
        self.handler.withLockedValue { $0 = handler }
        hasHandler.store(handler != nil, ordering: .relaxed)
    }

    func record(_ summary: RequestSummary) {
        handler.withLockedValue { $0 }?(summary)
    }
}
