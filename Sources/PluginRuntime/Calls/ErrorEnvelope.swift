/// Error from a worker to its host: the letter of the code, which decides whether the error counts as a failure, then
/// the message.
package enum ErrorEnvelope {
    package static func text(of error: any Error) -> String {
        guard let error = error as? PluginError else { return "i\(error)" }
        return "\(error.code.letter)\(error.message)"
    }

    /// Returns the plugin's error that the worker sent.
    package static func error(from text: String) -> PluginError {
        guard let letter = text.first, let code = PluginError.Code(letter: letter) else {
            return PluginError(.internal, text)
        }
        return PluginError(code, String(text.dropFirst()))
    }
}

extension PluginError.Code {
    private static let letters: [(Self, Character)] = [
        (.badRequest, "b"), (.notFound, "n"), (.busy, "y"), (.internal, "i"), (.withdrawn, "w"), (.crashed, "c"),
    ]

    fileprivate var letter: Character { Self.letters.first { $0.0 == self }?.1 ?? "i" }

    fileprivate init?(letter: Character) {
        guard let code = Self.letters.first(where: { $0.1 == letter })?.0 else { return nil }
        self = code
    }
}
