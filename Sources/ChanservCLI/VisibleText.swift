import HostConfiguration

extension String {
    /// This text as one line without control characters, which are escaped as `\u{1B}` or `\n`, and with
    /// bytes that are not UTF-8 as `\xE9`.
    ///
    /// For untrusted text from files, plugins and other hosts: it cannot send commands to the terminal.
    var visible: String {
        unicodeScalars.reduce(into: "") { result, scalar in
            result += scalar.isTerminalControl ? scalar.visibleEscape : String(scalar)
        }
    }
}
