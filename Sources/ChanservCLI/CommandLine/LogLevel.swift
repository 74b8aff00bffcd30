import ArgumentParser
import Logging

extension Logger.Level: @retroactive ExpressibleByArgument {
    /// Parses a level. Accepts the short names of other programs too: `warn` and `err`.
    public init?(argument: String) {
        switch argument {
        case "warn": self = .warning
        case "err": self = .error
        default: self.init(rawValue: argument)
        }
    }
}
