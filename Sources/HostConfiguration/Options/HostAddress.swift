/// The address of a listener or of a node to join: `host:port`, `[address]:port` for IPv6, or `unix:path`.
public enum HostAddress: Sendable, Hashable {
    /// A host and a TCP port. The host is an IP address without brackets, or a DNS name. The port is 0 to 65535; 0 means
    /// any free port and is valid only for listening.
    case tcp(host: String, port: Int)
    /// A Unix socket, 1 to 107 bytes. A relative path is relative to the working directory of the process; those of a
    /// configuration file are absolute.
    case unix(path: String)

    /// The TCP port; `nil` for a Unix socket.
    public var port: Int? {
        switch self {
        case .tcp(host: _, let port): port
        case .unix: nil
        }
    }

    /// Maximum length of the path of a Unix socket in bytes: the size of `sun_path` without the zero byte at its end.
    package static let longestSocketPath = 107
    /// Maximum length of the path of a Unix socket that is listened at or joined, in bytes: the limit of SwiftNIO.
    package static let longestLinkPath = 103

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

    /// Parses `host:port`, `1.2.3.4:port`, `[::1]:port` or `unix:path`.
    ///
    /// Checks only the syntax. A name is resolved when it is used.
    ///
    /// - Throws: ``Problem`` if `text` has another form, the port is larger than 65535, or the path is longer than 107
    ///   bytes.
    public init(_ text: String) throws(Problem) {
        try self.init(text, for: .listenKey)
    }

    /// As ``init(_:)``. Rejects port 0 unless the address is listened at.
    ///
    /// - Parameter folder: the absolute folder that the path of a Unix socket is resolved against; `nil` leaves a
    ///   relative path as it is.
    package init(_ text: String, for purpose: Purpose, folder: String? = nil) throws(Problem) {
        if let mistake = Self.mistake(text, purpose) { throw mistake }
        if text.hasPrefix(Self.unixPrefix) {
            self = .unix(path: try Self.socketPath(text, folder: folder))
            return
        }
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
        self = .tcp(host: String(host), port: port)
    }

    /// The beginning of the notation of a Unix socket.
    private static let unixPrefix = "unix:"

    /// Returns the path of a Unix socket.
    ///
    /// - Parameter text: begins with ``unixPrefix``.
    private static func socketPath(_ text: String, folder: String?) throws(Problem) -> String {
        var path = String(text.dropFirst(unixPrefix.count))
        guard !path.isEmpty else { throw Problem(description: "\(quoted(text)) has no path") }
        guard !path.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
            throw Problem(description: "\(quoted(text)) has a control character in it")
        }
        if let folder {
            // The bytes of the configuration file are those of the path.
            path = String(systemBytes: path.utf8)
            if !path.hasPrefix("/") { path = folder.hasSuffix("/") ? folder + path : "\(folder)/\(path)" }
        }
        let count = path.systemBytes.count
        guard count <= longestLinkPath else {
            throw Problem(
                description: "the path of the socket \(quoted(path)) has \(count) bytes, but at most "
                    + "\(longestLinkPath) are allowed: choose a shorter one, such as unix:/run/chanserv/mesh.sock")
        }
        return path
    }

    /// Returns the problem of a text that other programs accept or that is a frequent mistake, with the right form.
    private static func mistake(_ text: String, _ purpose: Purpose) -> Problem? {
        if let match = text.wholeMatch(of: #/:?(\d{1,5})/#) {
            return Problem(description: "\(quoted(text)) has no host: \(suggestion(port: match.output.1, purpose))")
        }
        if let match = text.wholeMatch(of: #/unix:\/\/(.*)/#) {
            return Problem(description: "\(quoted(text)) is a URL: write unix:\(match.output.1)")
        }
        if text.hasPrefix(unixPrefix + "@") {
            return Problem(description: "\(quoted(text)) is an abstract socket, which has no permissions: write a path")
        }
        if text.hasPrefix("/") {
            return Problem(description: "\(quoted(text)) is a path: write unix:\(text) for a Unix socket")
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
    /// The notation of ``init(_:)``.
    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): Self.unixPrefix + path
        }
    }
}
