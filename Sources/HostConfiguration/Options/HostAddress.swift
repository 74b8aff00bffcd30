/// A host and a TCP port, written `host:port`, or `[address]:port` for IPv6.
public struct HostAddress: Sendable, Hashable {
    /// An IP address without brackets, or a DNS name.
    public var host: String
    /// The TCP port, 0 to 65535. 0 means any free port and is valid only for listening.
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// The reason why a text is not an address.
    public struct Problem: Error, Sendable, Hashable, CustomStringConvertible {
        /// A phrase such as `'localhost' has no port`.
        public var description: String
    }

    /// The purpose of an address, which decides what error messages suggest.
    package struct Purpose: Sendable {
        /// Whether the address is listened at. Then port 0 is valid.
        var listens: Bool
        /// How to write several addresses.
        var several: String

        package static let listenKey = Purpose(listens: true, several: "write several addresses as a list")
        package static let joinKey = Purpose(listens: false, several: "write several addresses as a list")
        package static let listenOption = Purpose(listens: true, several: "separate several addresses with spaces")
        package static let joinOption = Purpose(listens: false, several: "give each node with its own --join")
    }

    /// Parses `host:port`, `1.2.3.4:port` or `[::1]:port`.
    ///
    /// Checks only the syntax. A name is resolved when it is used.
    ///
    /// - Throws: ``Problem`` if `text` has another form or the port is larger than 65535.
    public init(_ text: String) throws(Problem) {
        try self.init(text, for: .listenKey)
    }

    /// As ``init(_:)``. Rejects port 0 unless the address is listened at.
    package init(_ text: String, for purpose: Purpose) throws(Problem) {
        if let mistake = Self.mistake(text, purpose) { throw mistake }
        let host: Substring
        let rest: Substring
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { throw Problem(description: "\(quoted(text)) has no ']'") }
            host = text[text.index(after: text.startIndex)..<end]
            rest = text[text.index(after: end)...]
            let digits = host.prefix { $0 != "%" }
            guard digits.contains(":"), digits.allSatisfy({ $0.isHexDigit && $0.isASCII || $0 == ":" || $0 == "." })
            else { throw Problem(description: "\(quoted(host)) is not an IPv6 address") }
        } else {
            let end = text.lastIndex(of: ":") ?? text.endIndex
            host = text[..<end]
            rest = text[end...]
            guard !host.contains(":") else {
                throw Problem(description: "\(quoted(text)) has several colons; an IPv6 address goes in brackets")
            }
        }
        guard !host.isEmpty else { throw Problem(description: "\(quoted(text)) has no host") }
        let isText = !host.unicodeScalars.contains { $0.properties.isWhitespace || $0.value < 32 }
        guard isText, host.utf8.count <= 255 else { throw Problem(description: "\(quoted(host)) is not a host name") }
        guard rest.hasPrefix(":"), rest.count > 1 else { throw Problem(description: "\(quoted(text)) has no port") }
        let digits = rest.dropFirst()
        let lowest = purpose.listens ? 0 : 1
        guard digits.allSatisfy({ $0.isASCII && $0.isNumber }), let port = Int(digits), (lowest...65_535).contains(port)
        else { throw Problem(description: "\(quoted(digits)) is not a port (\(lowest) to 65535)") }
        self.init(host: String(host), port: port)
    }

    /// Returns the problem of a text that other programs accept or that is a frequent mistake, with the right form.
    private static func mistake(_ text: String, _ purpose: Purpose) -> Problem? {
        if let match = text.wholeMatch(of: #/:?(\d{1,5})/#) {
            return Problem(description: "\(quoted(text)) has no host: \(suggestion(port: match.output.1, purpose))")
        }
        if let match = text.wholeMatch(of: #/[A-Za-z][A-Za-z0-9+.-]*:\/\/([^\/]*).*/#) {
            let place = match.output.1
            let hint = place.contains(":") ? ": write \(place)" : ""
            return Problem(description: "\(quoted(text)) is a URL\(hint)")
        }
        let parts = text.split(whereSeparator: { $0 == "," || $0 == ";" || $0 == " " })
        if parts.count > 1, parts.allSatisfy({ $0.contains(":") }) {
            return Problem(description: "\(quoted(text)) has several addresses: \(purpose.several)")
        }
        guard text.hasPrefix("*:") else { return nil }
        return Problem(
            description: purpose.listens
                ? "'*' is not a host: write 0.0.0.0 for all IPv4 addresses or [::] for all" : "'*' is not a host")
    }

    /// Returns what to write instead of a port alone.
    static func suggestion(port: some StringProtocol, _ purpose: Purpose) -> String {
        "write 127.0.0.1:\(port)" + (purpose.listens ? ", or 0.0.0.0:\(port) for all addresses" : "")
    }
}

extension HostAddress: CustomStringConvertible {
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
