extension String {
    /// As text that does nothing to a terminal and is one line on it: control characters, line ends and what turns the direction
    /// of writing are escaped, as `\u{1B}` or `\n`. For what comes from elsewhere: files, plugins, other hosts.
    var visible: String {
        unicodeScalars.reduce(into: "") { result, scalar in
            result += scalar.commandsTerminals ? scalar.escaped(asASCII: true) : String(scalar)
        }
    }
}

extension Unicode.Scalar {
    fileprivate var commandsTerminals: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: ("\u{202A}"..."\u{202E}").contains(self) || ("\u{2066}"..."\u{2069}").contains(self)
        default: false
        }
    }
}
