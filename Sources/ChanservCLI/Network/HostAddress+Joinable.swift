import HostConfiguration

extension HostAddress {
    /// Parses an address to join. Rejects port 0.
    init(joinable text: String) throws(Problem) {
        try self.init(text, for: .joinOption)
    }
}
