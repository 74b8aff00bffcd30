internal import CChanservPlugin
internal import HostConfiguration

/// The getters of the host's table.
enum ConfigurationGetter: String, Sendable {
    case json = "config_json"
    case string = "config_string"
    case integer = "config_integer"
    case number = "config_number"
    case boolean = "config_boolean"
    case duration = "config_duration"
    case size = "config_size"
    case count = "config_count"
    case keys = "config_keys"
    case only = "config_only"
    case path = "config_path"
}

/// The calls of the getters by a plugin, and the failures that the test injects.
struct ConfigurationUse: Sendable {
    /// One call of a getter.
    struct Selector: Sendable, Hashable {
        var getter: ConfigurationGetter
        /// The path of the key; empty if the getter has no such parameter.
        var path: String
    }

    /// An injected failure of the getters.
    enum Failure: Sendable {
        /// The call with this number, counted from 0, returns CHANSERV_ERROR_BAD_REQUEST.
        case refuses(call: Int)
        /// Every key is missing.
        case hasNothing
    }

    /// The calls in their order.
    var questions: [Selector] = []
    var failure: Failure?
    /// Whether `failure` was injected.
    var hasFailed = false
    /// Whether create is running.
    var isLent = false
    /// The strings that the getters returned.
    var loans: Loans?
}

extension ConformanceHost {
    /// Provides `values` to the plugin during `body`, then ends the lifetime of all returned strings.
    func lending<Result>(
        _ values: PluginConfiguration, failure: ConfigurationUse.Failure?, _ body: (OpaquePointer) -> Result
    ) -> Result {
        let loans = Loans(lender)
        configuration.withLockedValue { $0 = ConfigurationUse(failure: failure, isLent: true, loans: loans) }
        defer {
            configuration.withLockedValue {
                $0.isLent = false
                $0.loans = nil
            }
            loans.end()
        }
        return inner.context.lending(values, body)
    }

    /// Checks the arguments of a getter, then injects a failure or calls the host's getter.
    func ask(
        _ getter: ConfigurationGetter, _ path: UnsafePointer<CChar>?, needsPath: Bool = true,
        _ error: UnsafeMutablePointer<chanserv_error>?, value: UnsafeRawPointer?,
        _ body: (UnsafePointer<chanserv_host>) -> chanserv_status
    ) -> chanserv_status {
        let isLent = configuration.withLockedValue { $0.isLent }
        if !isLent { findings.record(.hostTable, "host->\(getter.rawValue) was called when create was not running") }
        if needsPath, path == nil {
            findings.record(.hostTable, "host->\(getter.rawValue) was called with NULL as the path")
        }
        if needsPath, value == nil {
            findings.record(.hostTable, "host->\(getter.rawValue) was called with NULL for the value")
        }
        guard isLent, !needsPath || (path != nil && value != nil) else {
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        let question = ConfigurationUse.Selector(getter: getter, path: path.map { String(cString: $0) } ?? "")
        let instead: Int? = configuration.withLockedValue { use in
            let number = use.questions.count
            // Limited, because a plugin may ask for each element of a long list.
            if number < 10_000 { use.questions.append(question) }
            switch use.failure {
            case .refuses(let call) where call == number:
                use.hasFailed = true
                return CHANSERV_ERROR_BAD_REQUEST
            case .hasNothing where needsPath:
                use.hasFailed = true
                return CHANSERV_ERROR_NOT_FOUND
            default:
                return nil
            }
        }
        guard let instead else { return body(inner.pointer) }
        if instead == CHANSERV_ERROR_BAD_REQUEST { error?.pointee.write("\(Self.refusal) of \(getter.rawValue)") }
        return chanserv_status(instead)
    }

    /// The message of an injected failure.
    static let refusal = "an error that the test injects"

    /// Replaces a returned string by a copy whose lifetime ends when create returns.
    func replaceByLoan(_ value: UnsafeMutablePointer<UnsafePointer<CChar>?>?, size: Int) {
        guard let value, let text = value.pointee, let loans = configuration.withLockedValue({ $0.loans }) else {
            return
        }
        let loan = lender.lend(copying: UnsafeRawBufferPointer(start: text, count: size + 1))
        value.pointee = UnsafePointer(loans.add(loan).assumingMemoryBound(to: CChar.self))
    }
}
