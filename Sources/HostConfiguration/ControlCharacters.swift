extension Unicode.Scalar {
    /// Whether a terminal interprets the scalar instead of showing it: control characters, line and paragraph
    /// separators, and characters that change the text direction. Bytes that are not UTF-8 count too. Other invisible
    /// characters, such as joiners, are part of text.
    package var isTerminalControl: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: ("\u{202A}"..."\u{202E}").contains(self) || ("\u{2066}"..."\u{2069}").contains(self)
        case .privateUse: isSystemByte
        default: false
        }
    }
}
