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

    /// Parses `host:port`, `1.2.3.4:port` or `[::1]:port`.
    ///
    /// Checks only the syntax. A name is resolved when it is used.
    ///
    /// - Throws: ``Problem`` if `text` has another form or the port is larger than 65535.
    public init(_ text: String) throws(Problem) {
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
        guard !host.isEmpty else {
            throw Problem(description: "\(quoted(text)) has no host (all addresses of this machine are 0.0.0.0)")
        }
        let isText = !host.unicodeScalars.contains { $0.properties.isWhitespace || $0.value < 32 }
        guard isText, host.utf8.count <= 255 else { throw Problem(description: "\(quoted(host)) is not a host name") }
        guard rest.hasPrefix(":"), rest.count > 1 else { throw Problem(description: "\(quoted(text)) has no port") }
        let digits = rest.dropFirst()
        guard digits.allSatisfy({ $0.isASCII && $0.isNumber }), let port = Int(digits), port <= 65_535 else {
            throw Problem(description: "\(quoted(digits)) is not a port (0 to 65535)")
        }
        self.init(host: String(host), port: port)
    }
}

extension HostAddress: CustomStringConvertible {
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
