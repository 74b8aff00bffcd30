/// Text from the system that may not be UTF-8: arguments of the command line, environment variables and paths.
///
/// A `String` holds only Unicode. Each byte 0x80…0xFF that is not part of valid UTF-8 is stored as one character of
/// U+10FE80…U+10FEFF, which are for private use. The bytes of such a character in the text itself are stored in the
/// same way. The conversion therefore loses nothing: `String(systemBytes: bytes).systemBytes == bytes`.
extension String {
    /// Creates text from bytes of the system.
    package init(systemBytes bytes: some Collection<UInt8>) {
        if let text = String(validating: bytes, as: UTF8.self), !text.hasBytesThatAreNotUTF8 {
            self = text
            return
        }
        var text = String.UnicodeScalarView()
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            var parser = Unicode.UTF8.ForwardParser()
            var iterator = rest.makeIterator()
            let length: Int
            switch parser.parseScalar(from: &iterator) {
            case .valid(let encoded):
                let scalar = Unicode.UTF8.decode(encoded)
                length = encoded.count
                if scalar.systemByte == nil {
                    text.append(scalar)
                } else {
                    text.append(contentsOf: rest.prefix(length).map(Unicode.Scalar.init(systemByte:)))
                }
            case .error(length: let count):
                length = count
                text.append(contentsOf: rest.prefix(length).map(Unicode.Scalar.init(systemByte:)))
            case .emptyInput: length = rest.count
            }
            rest = rest.dropFirst(length)
        }
        self.init(text)
    }

    /// Creates text from a zero-terminated string of the system.
    package init(systemString string: UnsafePointer<CChar>) {
        var count = 0
        while string[count] != 0 { count += 1 }
        self.init(systemBytes: UnsafeRawBufferPointer(start: string, count: count))
    }

    /// The original bytes.
    package var systemBytes: [UInt8] {
        guard hasBytesThatAreNotUTF8 else { return Array(utf8) }
        return unicodeScalars.reduce(into: []) { bytes, scalar in
            if let byte = scalar.systemByte {
                bytes.append(byte)
            } else {
                bytes.append(contentsOf: UTF8.encode(scalar)!)
            }
        }
    }

    /// The original bytes as a zero-terminated string, for functions of the C library.
    package var systemString: [CChar] { systemBytes.map { CChar(bitPattern: $0) } + [0] }

    /// Whether some of the original bytes are stored as characters for private use.
    package var hasBytesThatAreNotUTF8: Bool { unicodeScalars.contains { $0.systemByte != nil } }
}

extension Unicode.Scalar {
    private static let systemBytes: UInt32 = 0x10_FE00

    fileprivate init(systemByte: UInt8) { self.init(Self.systemBytes + UInt32(systemByte))! }

    /// The byte that this character stands for (see ``Swift/String/init(systemBytes:)``); `nil` for any other character.
    fileprivate var systemByte: UInt8? {
        value >= Self.systemBytes + 0x80 && value <= Self.systemBytes + 0xFF ? UInt8(value - Self.systemBytes) : nil
    }

    /// Whether this character stands for a byte that is not UTF-8.
    var isSystemByte: Bool { systemByte != nil }

    /// The escape that shows this character to people, such as `\u{1B}`, `\n`, or `\xE9` for a byte that is not UTF-8.
    package var visibleEscape: String {
        guard let systemByte else { return escaped(asASCII: true) }
        return "\\x" + String(systemByte, radix: 16, uppercase: true)
    }
}
