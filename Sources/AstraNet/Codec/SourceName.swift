/// The form of the names of sources, which servers bind for one client each: a UUID of version 4 in lower case
/// (`docs/protocol.md` §5).
enum SourceName {
    private static let form = Array("xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx".utf8)

    /// Whether `name` has the form of such a name, without or with the suffix of the environment.
    static func matches(_ name: String, environmentSuffix suffix: String) -> Bool {
        let count = name.utf8.count
        guard count == form.count || count == form.count + suffix.utf8.count && name.hasSuffix(suffix) else {
            return false
        }
        return begins(name)
    }

    /// Whether `name` has the form of such a name, in any environment.
    static func matches(inAnyEnvironment name: String) -> Bool {
        begins(name) && (name.utf8.dropFirst(form.count).first.map { $0 == UInt8(ascii: ".") } ?? true)
    }

    private static func begins(_ name: String) -> Bool {
        let bytes = name.utf8.prefix(form.count)
        guard bytes.count == form.count else { return false }
        return zip(bytes, form).allSatisfy { byte, place in
            switch place {
            case UInt8(ascii: "x"): isHexDigit(byte)
            case UInt8(ascii: "y"): "89ab".utf8.contains(byte)
            default: byte == place
            }
        }
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }
}
