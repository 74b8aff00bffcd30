internal import NIOCore

/// A request on its way from a host to its worker: what the worker cannot see for itself, in front of the body.
///
/// `vaddr length u16 | vaddr | remote address length u16 | remote address | body`, big-endian.
struct RequestEnvelope: Hashable {
    var vAddr: String
    var remoteAddress: String
    var body: ByteBuffer

    func write(into buffer: inout ByteBuffer) {
        for text in [vAddr, remoteAddress] {
            // Both are far shorter: names of services have at most 1,024 bytes.
            let bytes = text.utf8.prefix(Int(UInt16.max))
            buffer.writeInteger(UInt16(bytes.count))
            buffer.writeBytes(bytes)
        }
        buffer.writeImmutableBuffer(body)
    }

    /// `nil` where it is none.
    init?(reading buffer: ByteBuffer) {
        var rest = buffer
        guard let vAddr = Self.readText(&rest), let remoteAddress = Self.readText(&rest) else { return nil }
        self.vAddr = vAddr
        self.remoteAddress = remoteAddress
        body = rest
    }

    init(vAddr: String, remoteAddress: String, body: ByteBuffer) {
        self.vAddr = vAddr
        self.remoteAddress = remoteAddress
        self.body = body
    }

    private static func readText(_ buffer: inout ByteBuffer) -> String? {
        guard let length: UInt16 = buffer.readInteger() else { return nil }
        return buffer.readString(length: Int(length))
    }
}

/// A failure on its way from a worker to its host: the code, which decides whether it counts, in front of the message.
enum ErrorEnvelope {
    static func text(of error: any Error) -> String {
        guard let error = error as? PluginError else { return "i\(error)" }
        return "\(error.code.letter)\(error.message)"
    }

    /// What the worker said, as the error that its plugin gave.
    static func error(from text: String) -> PluginError {
        guard let letter = text.first, let code = PluginError.Code(letter: letter) else {
            return PluginError(.internal, text)
        }
        return PluginError(code, String(text.dropFirst()))
    }
}

extension PluginError.Code {
    private static let letters: [(Self, Character)] = [
        (.badRequest, "b"), (.notFound, "n"), (.busy, "y"), (.internal, "i"), (.withdrawn, "w"), (.crashed, "c"),
    ]

    fileprivate var letter: Character { Self.letters.first { $0.0 == self }?.1 ?? "i" }

    fileprivate init?(letter: Character) {
        guard let code = Self.letters.first(where: { $0.1 == letter })?.0 else { return nil }
        self = code
    }
}
