package import NIOCore

/// Cuts what a client sends into lines, without their ends, and refuses one that is too long as soon as it is.
package struct ControlLineDecoder: ByteToMessageDecoder {
    package typealias InboundOut = ByteBuffer

    private let limit: Int
    /// How much of the buffer is known to have no end of a line in it.
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
            throw ControlError(.badRequest, "the last line has no end")
        }
        return .needMoreData
    }

    private var tooLong: ControlError {
        ControlError(.tooLong, "a line may have \(limit) bytes")
    }
}
