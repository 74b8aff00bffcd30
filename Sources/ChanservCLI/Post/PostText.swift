import HostConfiguration
import NIOCore

/// Renders events as text: `[0] header: …`, then `[0] …` for each line of each frame.
///
/// The end of a frame always ends the line. Control characters are escaped, and bytes that are not UTF-8 become
/// U+FFFD. The formats raw and JSON and the option `--save` preserve the bytes.
enum PostText {
    static func render(_ event: PostEvent, into out: inout ByteBuffer) {
        switch event {
        case .header(let source, let bytes):
            if bytes.readableBytes > 0 { write(bytes, prefix: "[\(source)] header: ", into: &out) }
        case .frame(let source, let bytes):
            write(bytes, prefix: "[\(source)] ", into: &out)
        case .end(let source, nil, let saved?):
            out.writeString("[\(source)] saved: ")
            write(ByteBuffer(string: saved.path), prefix: "", into: &out)
        case .end, .requestFailed:
            // PostSession reports failures on standard error.
            break
        }
    }

    private static func write(_ bytes: ByteBuffer, prefix: String, into out: inout ByteBuffer) {
        // Decoding replaces invalid UTF-8 and leaves valid text unchanged.
        var text = String(decoding: bytes.readableBytesView, as: UTF8.self)
        text.withUTF8 { utf8 in
            var rest = utf8[...]
            if rest.last == UInt8(ascii: "\n") { rest = rest.dropLast() }
            while true {
                let end = rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.endIndex
                out.writeString(prefix)
                writeEscaped(rest[..<end], into: &out)
                out.writeInteger(UInt8(ascii: "\n"))
                guard end < rest.endIndex else { break }
                rest = rest[(end + 1)...]
            }
        }
    }

    /// Writes a line. C0 and C1 control characters and DEL, except the tab, become escapes such as `\u{1B}`.
    private static func writeEscaped(_ line: Slice<UnsafeBufferPointer<UInt8>>, into out: inout ByteBuffer) {
        var start = line.startIndex
        var index = line.startIndex
        while index < line.endIndex {
            let byte = line[index]
            let next = index + 1
            // In UTF-8, U+0080…U+009F (C1) are the byte C2 followed by 80…9F.
            let isC1 = byte == 0xC2 && next < line.endIndex && line[next] < 0xA0
            if isC1 || (byte < 0x20 && byte != UInt8(ascii: "\t")) || byte == 0x7F {
                out.writeBytes(line[start..<index])
                let scalar = Unicode.Scalar(isC1 ? line[next] : byte)
                out.writeString(scalar.escaped(asASCII: true))
                index = isC1 ? next + 1 : next
                start = index
            } else {
                index = next
            }
        }
        out.writeBytes(line[start...])
    }
}
