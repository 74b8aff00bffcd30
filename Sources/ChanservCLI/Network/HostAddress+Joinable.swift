import ChanservHost

extension HostAddress {
    /// An address to join: every one but that with port 0.
    init(joinable text: String) throws(Problem) {
        try self.init(text)
        guard port != 0 else { throw Problem(description: "'\(self)' cannot be joined: port 0 is any free port") }
    }
}
