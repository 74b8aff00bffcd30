import Glibc

enum Terminal {
    /// Returns the number of columns of a terminal; `nil` if the descriptor is no terminal or has no known size.
    static func width(of descriptor: Int32) -> Int? {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return Int(size.ws_col)
    }

    /// Returns the sequence that redraws a terminal with `text`: cursor home, clear screen, then the text with its
    /// lines cut to the width. Longer lines would wrap and move the table at each redraw.
    static func page(_ text: String, width: Int?) -> String {
        guard let width else { return "\u{1B}[H\u{1B}[2J" + text }
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.prefix(width) }
        return "\u{1B}[H\u{1B}[2J" + lines.joined(separator: "\n")
    }
}
