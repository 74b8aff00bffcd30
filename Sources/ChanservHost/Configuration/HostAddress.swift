/// A host and a TCP port, written `host:port`, or `[address]:port` for IPv6.
public struct HostAddress: Sendable, Hashable {
    /// An IP address without brackets, or a name for DNS.
    public var host: String
    /// 0…65535; 0 only to listen at any free port.
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Why a text is no address.
    public struct Problem: Error, Sendable, Hashable, CustomStringConvertible {
        /// A phrase, e.g. `'localhost' has no port`.
        public var description: String
    }

    /// Reads `host:port`, `1.2.3.4:port` or `[::1]:port`.
    ///
    /// Only the form is checked: whether a name can be resolved is known when it is used.
    ///
    /// - Throws: ``Problem`` when `text` is written differently or the port is larger than 65535.
    public init(_ text: String) throws(Problem) {
        let host: Substring
        let rest: Substring
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { throw Problem(description: "\(quoted(text)) has no ']'") }
            host = text[text.index(after: text.startIndex)..<end]
            rest = text[text.index(after: end)...]
            let digits = host.prefix { $0 != "%" }
            guard digits.contains(":"), digits.allSatisfy({ $0.isHexDigit && $0.isASCII || $0 == ":" || $0 == "." })
            else { throw Problem(description: "\(quoted(host)) is no IPv6 address") }
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
        guard isText, host.utf8.count <= 255 else { throw Problem(description: "\(quoted(host)) is no host name") }
        guard rest.hasPrefix(":"), rest.count > 1 else { throw Problem(description: "\(quoted(text)) has no port") }
        let digits = rest.dropFirst()
        guard digits.allSatisfy({ $0.isASCII && $0.isNumber }), let port = Int(digits), port <= 65_535 else {
            throw Problem(description: "\(quoted(digits)) is no port (0 to 65535)")
        }
        self.init(host: String(host), port: port)
    }
}

extension HostAddress: CustomStringConvertible {
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
