import ArgumentParser
import HostConfiguration

extension HostAddress {
    /// Parses an address to join. Rejects port 0.
    init(joinable text: String) throws {
        try self.init(text)
        guard port != 0 else { throw ValidationError("cannot join '\(self)': port 0 is only valid for listening") }
    }
}
