internal import CChanservPlugin
internal import Chanserv

/// Error that a client receives: the answer of a plugin, or an error of the host in its place.
package struct PluginError: ServingError, Sendable, Hashable {
    /// Kind of failure: the error codes of the ABI, and the host's own.
    package enum Code: Sendable, Hashable {
        /// The request is wrong. Repeating it does not help.
        case badRequest
        /// The requested object does not exist.
        case notFound
        /// The plugin cannot serve the request now. A retry, later or at another host, may succeed.
        case busy
        /// Any other failure, including each code that the host does not know.
        case `internal`
        /// The host withdrew the instance because it was replaced or because the host stops.
        case withdrawn
        /// The worker process has ended. The end itself counts as one failure, however many requests it ended.
        case crashed
    }

    package var code: Code
    /// Text for the log and the client.
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Whether this error is evidence against the health of the plugin. A client that requests missing objects must not
    /// cause the route to be withdrawn.
    package var countsAsFailure: Bool {
        switch code {
        case .badRequest, .notFound, .withdrawn, .crashed: false
        case .busy, .internal: true
        }
    }
}

extension PluginError: CustomStringConvertible {
    package var description: String { message }
}

/// Answer of a plugin function, checked against the values that the header documents for it.
package enum PluginAnswer: Sendable, Hashable {
    case ready
    case pending
    case end
    case failed(PluginError)

    /// Interprets the status of a poll, for which the header documents all three answers.
    ///
    /// - Parameters:
    ///   - function: name of the function, for messages.
    ///   - message: text that the plugin wrote into the error buffer.
    init(poll status: chanserv_status, function: StaticString, message: String) {
        switch status {
        case chanserv_status(CHANSERV_READY): self = .ready
        case chanserv_status(CHANSERV_PENDING): self = .pending
        case chanserv_status(CHANSERV_END): self = .end
        default: self = .failed(PluginError(status: status, function: function, message: message))
        }
    }
}

extension PluginError {
    /// Interprets a status that is not a documented answer of `function`.
    init(status: chanserv_status, function: StaticString, message: String) {
        if status >= 0 {
            self.init(.internal, "\(function) returned \(status), which is not a documented answer of this function")
            return
        }
        let code: Code =
            switch status {
            case chanserv_status(CHANSERV_ERROR_BAD_REQUEST): .badRequest
            case chanserv_status(CHANSERV_ERROR_NOT_FOUND): .notFound
            case chanserv_status(CHANSERV_ERROR_BUSY): .busy
            default: .internal
            }
        self.init(code, message.isEmpty ? "\(function) failed: \(code.phrase)" : message)
    }
}

extension PluginError.Code {
    /// Text for an error without a message from the plugin.
    fileprivate var phrase: String {
        switch self {
        case .badRequest: "bad request"
        case .notFound: "not found"
        case .busy: "busy"
        case .internal: "internal error"
        case .withdrawn: "withdrawn"
        case .crashed: "crashed"
        }
    }
}
