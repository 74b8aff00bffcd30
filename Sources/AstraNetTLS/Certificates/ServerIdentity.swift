/// A name of a host: the one that the certificate of a server must have (RFC 9525).
package enum ServerIdentity: Hashable, Sendable {
    /// A DNS name in lower case, without a period at its end.
    case dns(String)
    /// An IP address: 4 or 16 bytes.
    case address([UInt8])

    /// Parses a name. Returns `nil` if it is neither an IP address nor a DNS name.
    package init?(_ text: String) {
        if let address = [UInt8](address: text) {
            self = .address(address)
            return
        }
        var name = text.lowercased()
        if name.hasSuffix(".") { name.removeLast() }
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...253).contains(name.utf8.count), labels.allSatisfy({ Self.isLabel($0) }) else { return nil }
        self = .dns(name)
    }

    private static func isLabel(_ label: Substring) -> Bool {
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
            && label.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
                    UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    /// The name for the SNI extension; `nil` for an address, which it may not have (RFC 6066 §3).
    var serverNameIndication: String? {
        switch self {
        case .dns(let name): name
        case .address: nil
        }
    }

    /// Returns whether one of the names is this one. Only subject alternative names count, never the common name.
    func matches(_ names: CertificateNames) -> Bool {
        switch self {
        case .dns(let expected): names.dnsNames.contains { Self.matches(expected, pattern: $0) }
        case .address(let expected): names.addresses.contains(expected)
        }
    }

    /// A wildcard stands for exactly one label, must be the whole left-most label and needs two more (RFC 9525 §6.3).
    private static func matches(_ name: String, pattern: String) -> Bool {
        let pattern = pattern.hasSuffix(".") ? pattern.dropLast() : pattern[...]
        guard pattern.hasPrefix("*.") else { return name == pattern }
        let parent = pattern.dropFirst(2)
        guard parent.contains("."), !parent.contains("*"), let period = name.firstIndex(of: ".") else { return false }
        return name[name.index(after: period)...] == parent
    }
}
