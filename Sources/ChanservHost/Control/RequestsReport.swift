internal import Chanserv

/// The open requests of a host as sent over the control socket.
package struct RequestsReport: Codable, Sendable, Hashable {
    /// Maximum requests in one report; the oldest ones are listed.
    package static let longest = 10_000

    /// The listed requests, oldest first.
    package var requests: [Request]
    /// Number of open requests, including those beyond ``longest``.
    package var total: Int

    /// See ``OpenRequest``.
    package struct Request: Codable, Sendable, Hashable {
        package enum State: String, Codable, Sendable {
            /// The host is receiving the body of the request.
            case readingBody = "reading_body"
            /// The plugin has not announced a source.
            case waitingForPlugin = "waiting_for_plugin"
            /// The host sends frames as the plugin produces them.
            case sending
            /// The client grants no credit at the moment.
            case waitingForClient = "waiting_for_client"
            /// The request was answered or cancelled, and the plugin has not released it.
            case ending
        }

        package var id: UInt64
        package var vaddr: String
        package var client: String
        package var ageMilliseconds: Int
        package var state: State
        package var sourcesOpen: Int
        package var sourcesTotal: Int
        package var frames: Int
        package var bytes: Int

        enum CodingKeys: String, CodingKey {
            case id, vaddr, client
            case ageMilliseconds = "age_ms"
            case state
            case sourcesOpen = "sources_open"
            case sourcesTotal = "sources_total"
            case frames, bytes
        }
    }
}

/// The request that `cancel` ended.
package struct CancelReport: Codable, Sendable, Hashable {
    package var id: UInt64
    package var vaddr: String
}

extension RequestsReport {
    /// - Parameter requests: all open requests, oldest first.
    init(_ requests: [RequestScope]) {
        self.init(requests: requests.prefix(Self.longest).map { Request($0.status) }, total: requests.count)
    }
}

extension RequestsReport.Request {
    init(_ request: OpenRequest) {
        let state: State =
            switch request.state {
            case .readingBody: .readingBody
            case .waitingForSources: .waitingForPlugin
            case .sending: .sending
            case .waitingForClient: .waitingForClient
            case .ending: .ending
            }
        self.init(
            id: request.id, vaddr: request.vAddr, client: request.client,
            ageMilliseconds: request.age.wholeMilliseconds, state: state, sourcesOpen: request.sourcesOpen,
            sourcesTotal: request.sourcesTotal, frames: request.frames, bytes: request.bytes)
    }
}
