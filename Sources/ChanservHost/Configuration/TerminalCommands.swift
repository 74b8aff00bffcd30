extension Unicode.Scalar {
    /// Whether a terminal that shows it does something else, or goes to another line: control characters, line ends, and what
    /// turns the direction of what follows round. Others that are not seen join letters.
    package var commandsTerminals: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: ("\u{202A}"..."\u{202E}").contains(self) || ("\u{2066}"..."\u{2069}").contains(self)
        default: false
        }
    }
}
