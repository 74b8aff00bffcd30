import ArgumentParser
import ChanservHost

extension HostAddress {
    /// An address to join: every one but those with port 0.
    init(joinable text: String) throws {
        try self.init(text)
        guard port != 0 else { throw ValidationError("'\(self)' cannot be joined: port 0 stands for any free port") }
    }
}
