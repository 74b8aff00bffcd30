package import NIOCore

/// Finds the ends of frames in a byte stream that is passed on unchanged.
package struct FrameBoundaries: Sendable {
    /// The bytes of an incomplete length.
    private var length: UInt64 = 0
    private var lengthBytes = 0
    /// The number of missing bytes of the frame whose length is known.
    private var rest = 0

    package init() {}

    /// Whether the bytes so far end with a complete frame.
    package var isBetweenFrames: Bool { rest == 0 && lengthBytes == 0 }

    /// Processes the next bytes of the stream.
    ///
    /// - Returns: the number of frames that end in `bytes`.
    /// - Throws: ``ChanservError`` with code `wrongFrameSize`.
    package mutating func ends(in bytes: ByteBuffer) throws(ChanservError) -> Int {
        let result = bytes.withUnsafeReadableBytes { walk($0) }
        guard let result else {
            throw ChanservError(.wrongFrameSize, "\(length) bytes, at most \(WireFormat.maxFrameSize) can be sent")
        }
        return result
    }

    /// Returns the number of frames that end in `bytes`; `nil` if a frame is too large.
    private mutating func walk(_ bytes: UnsafeRawBufferPointer) -> Int? {
        var at = 0
        var ends = 0
        let count = bytes.count
        while at < count {
            if rest > 0 {
                let part = min(rest, count - at)
                rest -= part
                at += part
                if rest == 0 { ends += 1 }
                continue
            }
            if lengthBytes == 0, count - at >= WireFormat.lengthSize {
                length = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                at += WireFormat.lengthSize
            } else {
                if lengthBytes == 0 { length = 0 }
                length |= UInt64(bytes[at]) << (8 * lengthBytes)
                lengthBytes += 1
                at += 1
                guard lengthBytes == WireFormat.lengthSize else { continue }
                lengthBytes = 0
            }
            guard length <= UInt64(WireFormat.maxFrameSize) else { return nil }
            rest = Int(length)
            if rest == 0 { ends += 1 }
        }
        return ends
    }
}
