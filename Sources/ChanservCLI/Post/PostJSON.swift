import FoundationEssentials
import NIOCore

/// Renders events as JSON, one object per line: `{"source":0,"header":"…"}`, `{"source":0,"frame":"…"}`,
/// `{"source":0,"end":"ok"}` or `{"source":0,"end":"error","message":"…"}`, and `{"end":"error","message":"…"}` if
/// the whole request failed.
///
/// Bytes that are not UTF-8 are base64 under the keys `header_base64` and `frame_base64`. With `--save` the end of a
/// source also has `"path"` and `"bytes"`.
enum PostJSON {
    static func render(_ event: PostEvent, into out: inout ByteBuffer) {
        switch event {
        case .header(let source, let bytes):
            open(source, into: &out)
            write("header", bytes, into: &out)
        case .frame(let source, let bytes):
            open(source, into: &out)
            write("frame", bytes, into: &out)
        case .end(let source, let failure, let saved):
            open(source, into: &out)
            writeEnd(failure, into: &out)
            if let saved {
                out.writeString(",\"path\":")
                write(saved.path, into: &out)
                out.writeString(",\"bytes\":\(saved.bytes)")
            }
        case .requestFailed(let message):
            out.writeString("{")
            writeEnd(message, into: &out)
        }
        out.writeString("}\n")
    }

    private static func open(_ source: Int, into out: inout ByteBuffer) {
        out.writeString("{\"source\":\(source),")
    }

    private static func writeEnd(_ failure: String?, into out: inout ByteBuffer) {
        guard let failure else {
            out.writeString("\"end\":\"ok\"")
            return
        }
        out.writeString("\"end\":\"error\",\"message\":")
        write(failure, into: &out)
    }

    private static func write(_ key: String, _ bytes: ByteBuffer, into out: inout ByteBuffer) {
        if let text = String(validating: bytes.readableBytesView, as: UTF8.self) {
            out.writeString("\"\(key)\":")
            write(text, into: &out)
        } else {
            out.writeString("\"\(key)_base64\":\"")
            out.writeString(Data(bytes.readableBytesView).base64EncodedString())
            out.writeString("\"")
        }
    }

    private static func write(_ text: String, into out: inout ByteBuffer) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        do {
            out.writeBytes(try encoder.encode(text))
        } catch {
            // Unreachable: every string encodes.
            fatalError("cannot encode a string: \(error)")
        }
    }
}
