internal import CChanservPlugin
internal import Chanserv

/// What a plugin answered, or what the host says in its place: the error a client gets.
package struct PluginError: ServingError, Sendable, Hashable {
    /// The kind of failure: the ABI's error codes, and the host's own.
    package enum Code: Sendable, Hashable {
        /// The request is wrong; trying it again will not help.
        case badRequest
        /// What was asked for does not exist.
        case notFound
        /// Not now, perhaps later or elsewhere.
        case busy
        /// Anything else, and every code the host does not know.
        case `internal`
        /// The host withdrew the instance (it was replaced, or the host stops).
        case withdrawn
        /// The process it runs in has ended. That counts by itself, once, whatever it took along.
        case crashed
    }

    package var code: Code
    /// For the log and the client.
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Whether this says something about the plugin's health rather than about one request: a client that asks for
    /// what does not exist must not take a route down.
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

/// A plugin function's answer, checked against what the header documents for it.
package enum PluginAnswer: Sendable, Hashable {
    case ready
    case pending
    case end
    case failed(PluginError)

    /// Reads the status of a poll, for which all three answers are documented.
    ///
    /// - Parameters:
    ///   - function: its name, for messages.
    ///   - message: what the plugin wrote into the error buffer.
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
    /// Reads a status that is not one of the answers documented for `function`.
    init(status: chanserv_status, function: StaticString, message: String) {
        if status >= 0 {
            self.init(.internal, "\(function) answered \(status), which is not an answer it can give")
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
    /// What to say where the plugin said nothing.
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
