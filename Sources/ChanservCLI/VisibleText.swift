import ChanservHost

extension String {
    /// As text that does nothing to a terminal and is one line on it: what would is escaped, as `\u{1B}` or `\n`. For what comes
    /// from elsewhere: files, plugins, other hosts.
    var visible: String {
        unicodeScalars.reduce(into: "") { result, scalar in
            result += scalar.commandsTerminals ? scalar.escaped(asASCII: true) : String(scalar)
        }
    }
}
