/// The identity of a caller as a router writes it into the dial block (`docs/protocol.md` §10.4): one line for each name,
/// `uri …`, `dns …` or `sha256 …`.
///
/// User IDs and listeners have a meaning only on the router's machine, so they are not in it.
enum RelayedIdentity {
    /// Maximum bytes of the text. Names beyond it are left out.
    static let maximumSize = 1_024

    /// Returns the text; `nil` if the credentials have no name that is valid on other machines.
    static func text(of credentials: PeerCredentials) -> String? {
        let fingerprint = credentials.keyFingerprint.map { ["sha256 \($0)"] } ?? []
        let lines = fingerprint + credentials.uris.map { "uri \($0)" } + credentials.dnsNames.map { "dns \($0)" }
        var text = ""
        for line in lines where !line.utf8.contains(where: { $0 < 0x20 }) {
            guard text.utf8.count + line.utf8.count < maximumSize else { continue }
            text += text.isEmpty ? line : "\n\(line)"
        }
        return text.isEmpty ? nil : text
    }

    /// Reads the text. Ignores lines of unknown kinds.
    static func credentials(in text: String) -> PeerCredentials {
        var credentials = PeerCredentials()
        guard text.utf8.count <= maximumSize else { return credentials }
        for line in text.split(separator: "\n") {
            guard let space = line.firstIndex(of: " ") else { continue }
            let value = String(line[line.index(after: space)...])
            switch line[..<space] {
            case "uri": credentials.uris.append(value)
            case "dns": credentials.dnsNames.append(value)
            case "sha256": credentials.keyFingerprint = value
            default: break
            }
        }
        return credentials
    }
}
