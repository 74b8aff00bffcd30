import ArgumentParser
import HostConfiguration

/// Parses the value of an option such as `--timeout`: a duration of more than 0.
func timeLimit(_ text: String) throws -> Duration {
    let limit = try ValueGrammar.duration(text)
    guard limit > .zero else { throw ValidationError("the timeout must be more than 0") }
    return limit
}

/// Parses the value of an option that is a duration.
func duration(_ text: String) throws -> Duration { try ValueGrammar.duration(text) }
