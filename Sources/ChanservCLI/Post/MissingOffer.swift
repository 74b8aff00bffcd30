import HostConfiguration

/// Explains that no node offers an address, from the names that the client knows.
struct MissingOffer {
    private let vAddr: String
    private let hint: String

    /// - Parameters:
    ///   - environment: the environment of the request; empty for none.
    ///   - names: the offered names with their environments.
    /// - Returns: `nil` if a node offers the address.
    init?(vAddr: String, environment: String, names: [String]) {
        let suffix = environment.isEmpty ? "" : ".\(environment)"
        guard !names.contains(vAddr + suffix) else { return nil }
        self.vAddr = vAddr
        let elsewhere = names.filter { $0.hasPrefix(vAddr + ".") }.map { $0.dropFirst(vAddr.count + 1) }.sorted()
        if let other = elsewhere.first {
            hint = "; it is offered in the environment '\(other)': give it with --environment"
        } else if !environment.isEmpty, names.contains(vAddr) {
            hint = "; it is offered without an environment: omit --environment"
        } else {
            let known = names.filter { $0.hasSuffix(suffix) }.map { String($0.dropLast(suffix.count)) }
            hint = NearestKey.find(vAddr, among: known.sorted()).map { "; did you mean '\($0)'?" } ?? ""
        }
    }

    /// - Parameter time: the time that the client waited for an offer.
    func message(waited time: Duration) -> String {
        "no node offers '\(vAddr)' (waited \(ValueGrammar.text(time)))\(hint)"
    }
}
