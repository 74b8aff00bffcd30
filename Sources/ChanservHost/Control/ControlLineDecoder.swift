package import NIOCore

/// Splits the bytes of a client into lines without their line breaks. Rejects a line as soon as it is too long.
package struct ControlLineDecoder: ByteToMessageDecoder {
    package typealias InboundOut = ByteBuffer

    private let limit: Int
    /// Bytes at the start of the buffer that contain no line break.
    private var seen = 0

    package init(limit: Int = ControlRequest.longestLine) {
        self.limit = limit
    }

    package mutating func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        let view = buffer.readableBytesView
        guard let end = view.dropFirst(seen).firstIndex(of: UInt8(ascii: "\n")) else {
            seen = view.count
            guard seen <= limit else { throw tooLong }
            return .needMoreData
        }
        let length = end - view.startIndex
        guard length <= limit, let line = buffer.readSlice(length: length) else { throw tooLong }
        buffer.moveReaderIndex(forwardBy: 1)
        seen = 0
        context.fireChannelRead(Self.wrapInboundOut(line))
        return .continue
    }

    package mutating func decodeLast(
        context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool
    ) throws -> DecodingState {
        if case .continue = try decode(context: context, buffer: &buffer) { return .continue }
        guard buffer.readableBytes == 0 else {
            throw ControlError(.badRequest, "the last line has no line break")
        }
        return .needMoreData
    }

    private var tooLong: ControlError {
        ControlError(.tooLong, "a line may have at most \(limit) bytes")
    }
}
