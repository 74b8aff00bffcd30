import NIOCore

/// Frames on their way out, encoded as they are appended.
///
/// A producer appends until the batch ``isFull``; the server then writes the batch to the connection. Frames are copied
/// into one buffer, except those that ``append(lent:)`` takes as they are. A batch cannot be copied. A plain function pointer (the C ABI's sink) reaches it through `withUnsafeMutablePointer(to:)`.
public struct FrameBatch: ~Copyable, Sendable {
    /// The largest payload of a frame: 104,857,600 bytes, 100 MiB (protocol section 5).
    public static let maxFrameSize = WireFormat.maxFrameSize

    /// At how many bytes the batch is full. Default 65,536: what a stream may have under way before it needs credit.
    public let target: Int
    /// Whether payloads of more than 12 bytes are compressed where that makes them smaller.
    public let compression: Bool
    /// How many frames are in it.
    public private(set) var count = 0
    /// Whether there are bytes of frames that were encoded elsewhere, perhaps of a part of one.
    private var isAdopted = false

    /// A frame, or a part of one, that was not copied: it goes out between the bytes of `buffer`.
    private struct LentPart {
        /// How many bytes of `buffer` go out before it, as an index into that buffer.
        let position: Int
        let bytes: ByteBuffer
    }

    /// A lent frame of fewer bytes is copied: 8 KiB. A part of its own costs more than that copy.
    public static let lentSizeMin = 8_192

    private var buffer = ByteBuffer()
    /// In the order in which they go out.
    private var lentParts: [LentPart] = []
    /// How many bytes they have together.
    private var lentBytes = 0
    /// Where the next copied frame goes: free memory of `buffer` behind its writer index, held on to so that a small
    /// frame costs no more than its copy. Safe to send along: the memory is this batch's alone, and is let go of by
    /// `settle()` before `buffer` is touched in any other way.
    private nonisolated(unsafe) var room: UnsafeMutableRawPointer?
    /// How many bytes there are at `room`.
    private var free = 0
    /// How many bytes before `room` are written and not yet counted in `buffer`.
    private var unsettled = 0
    private var compressor: Compressor?
    /// Where the frame begins that is being filled, `nil` while there is none. It lies in the scratch of `compressor`
    /// (from 0) when it will be compressed.
    private var reservation: Int?
    /// What the last batch came to, so that the next one need not grow its way there again.
    private var expectedSize = 0

    /// Makes an empty batch.
    ///
    /// - Parameters:
    ///   - compression: whether to compress payloads; the default is `false`.
    ///   - target: at how many bytes the batch is full; the default is 65,536.
    public init(compression: Bool = false, target: Int = 65_536) {
        self.compression = compression
        self.target = max(1, target)
    }

    deinit {
        if let compressor { CompressorPool.giveBack(compressor) }
    }

    /// Whether there is no frame in it.
    public var isEmpty: Bool { count == 0 && !isAdopted }

    /// How many encoded bytes are in it.
    public var byteCount: Int {
        if let reservation, !compression { return reservation + lentBytes }
        return buffer.readableBytes + unsettled + lentBytes
    }

    /// Whether the producer should stop appending. Appending to a full batch works, it only makes a larger one.
    public var isFull: Bool { byteCount >= target }

    /// Whether a frame of `size` bytes fits below the target. An empty batch has room for any frame that may be sent.
    public func hasRoom(for size: Int) -> Bool {
        guard size >= 0, size <= Self.maxFrameSize else { return false }
        return isEmpty || byteCount + WireFormat.lengthSize + size <= target
    }

    // MARK: Whole frames

    /// Appends a frame. What a reservation holds that was not committed is dropped.
    ///
    /// - Throws: ``ChanservError`` with code `wrongFrameSize` where the payload (or its compressed form, for a payload
    ///   that has to be sent as one) is larger than ``maxFrameSize``; the batch is as it was.
    public mutating func append(_ frame: some Frame) throws(ChanservError) {
        dropReservation()
        if compression {
            let compressor = takeCompressor()
            compressor.scratch.clear()
            frame.write(into: &compressor.scratch)
            try appendScratch(of: compressor)
            return
        }
        settle()
        prepareRoom()
        let start = buffer.writerIndex
        buffer.writeInteger(UInt64(0))
        frame.write(into: &buffer)
        try finishFrame(at: start)
    }

    /// Appends a frame of a master stream: as it is, whatever it begins with. Only those of sources may be compressed, and
    /// only those are looked at for the mark (protocol section 5).
    ///
    /// - Throws: ``ChanservError`` with code `wrongFrameSize` where the payload is larger than ``maxFrameSize``; the batch
    ///   is as it was.
    mutating func append(uncompressed frame: some Frame) throws(ChanservError) {
        dropReservation()
        settle()
        prepareRoom()
        let start = buffer.writerIndex
        buffer.writeInteger(UInt64(0))
        frame.write(into: &buffer)
        try finishFrame(at: start, isRaw: true)
    }

    /// Appends a frame with the payload `bytes`.
    ///
    /// - Throws: as ``append(_:)``.
    public mutating func append(copying bytes: UnsafeRawBufferPointer) throws(ChanservError) {
        dropReservation()
        let size = bytes.count
        guard size <= Self.maxFrameSize else { throw Self.tooLarge(size) }
        if size > WireFormat.compressedHead {
            let marked = bytes.loadUnaligned(as: UInt32.self) == WireFormat.compressedMark.littleEndian
            if compression || marked {
                try appendBlock(of: bytes, using: takeCompressor(), always: marked)
                return
            }
        }
        appendRaw(bytes)
    }

    // MARK: Lent frames

    /// Whether a payload would be sent without a copy by ``append(lent:)``: it has at least ``lentSizeMin`` bytes, is not
    /// to be compressed and does not begin with the mark of compressed ones.
    package func isSentAsIs(_ payload: UnsafeRawBufferPointer) -> Bool {
        payload.count >= Self.lentSizeMin && !compression
            && payload.loadUnaligned(as: UInt32.self) != WireFormat.compressedMark.littleEndian
    }

    /// Appends a frame whose payload is the readable bytes of `payload`, which is kept until it is sent instead of being
    /// copied. Small payloads, and those that are compressed, are copied.
    ///
    /// - Throws: as ``append(_:)``.
    public mutating func append(lent payload: ByteBuffer) throws(ChanservError) {
        guard payload.readableBytes <= Self.maxFrameSize else { throw Self.tooLarge(payload.readableBytes) }
        if payload.withUnsafeReadableBytes({ isSentAsIs($0) }) {
            append(lent: CollectionOfOne(payload))
        } else {
            try append(payload)
        }
    }

    /// Appends one frame, whose payload is the readable bytes of `pieces` in order.
    ///
    /// - Parameter pieces: what ``isSentAsIs(_:)`` as a whole, at most ``maxFrameSize`` bytes.
    package mutating func append(lent pieces: some Collection<ByteBuffer>) {
        dropReservation()
        let size = pieces.reduce(0) { $0 + $1.readableBytes }
        precondition(size <= Self.maxFrameSize && !compression, "a frame was lent that cannot be sent as it is")
        settle()
        prepareRoom()
        buffer.writeInteger(UInt64(size), endianness: .little)
        count += 1
        lentBytes += size
        for piece in pieces { lentParts.append(LentPart(position: buffer.writerIndex, bytes: piece)) }
    }

    // MARK: Frames of unknown length

    /// Room for a frame whose length is not known beforehand, inside the outgoing buffer.
    ///
    /// The memory stays valid until the next call on the batch. Calling this again before ``commit(size:)`` enlarges the
    /// room and keeps what was written, perhaps at another address.
    ///
    /// - Parameter minimum: how many bytes are needed at least.
    /// - Returns: at least `minimum` bytes; `nil` where the batch has frames already and no room beside them, or where
    ///   `minimum` is larger than ``maxFrameSize``.
    public mutating func reserve(minimum: Int) -> UnsafeMutableRawBufferPointer? {
        guard hasRoom(for: minimum) else { return nil }
        if compression {
            let compressor = takeCompressor()
            if reservation == nil { compressor.scratch.clear() }
            reservation = 0
            return Self.room(in: &compressor.scratch, from: 0, minimum: minimum)
        }
        if reservation == nil {
            settle()
            prepareRoom()
            reservation = buffer.writerIndex
            buffer.writeInteger(UInt64(0))
        }
        return Self.room(in: &buffer, from: (reservation ?? 0) + WireFormat.lengthSize, minimum: minimum)
    }

    /// Makes the first `size` bytes of the reservation a frame.
    ///
    /// - Throws: ``ChanservError`` with code `wrongFrameSize` where `size` is larger than what was reserved or than
    ///   ``maxFrameSize``, or where nothing was reserved; the reservation is dropped.
    public mutating func commit(size: Int) throws(ChanservError) {
        guard let start = reservation else { throw ChanservError(.wrongFrameSize, "nothing was reserved") }
        if compression {
            let compressor = takeCompressor()
            guard size >= 0, size <= compressor.scratch.writerIndex else {
                dropReservation()
                throw ChanservError(.wrongFrameSize, "\(size) bytes committed, fewer reserved")
            }
            compressor.scratch.moveWriterIndex(to: size)
            reservation = nil
            try appendScratch(of: compressor)
            return
        }
        let payload = start + WireFormat.lengthSize
        guard size >= 0, size <= buffer.writerIndex - payload else {
            dropReservation()
            throw ChanservError(.wrongFrameSize, "\(size) bytes committed, fewer reserved")
        }
        reservation = nil
        buffer.moveWriterIndex(to: payload + size)
        try finishFrame(at: start)
    }

    // MARK: Frames encoded elsewhere

    /// Makes `bytes` the content of this batch, which must be empty.
    ///
    /// - Parameters:
    ///   - bytes: encoded frames; the first and the last one may be cut.
    ///   - frames: how many of them end here.
    package mutating func adopt(_ bytes: ByteBuffer, frames: Int) {
        precondition(isEmpty, "a batch that is not empty adopted bytes")
        dropReservation()
        settle()
        buffer = bytes
        count = frames
        isAdopted = true
    }

    // MARK: Out

    /// Hands over the encoded frames as one buffer and empties the batch. Lent frames are copied into it.
    package mutating func take() -> ByteBuffer {
        guard !lentParts.isEmpty else { return takeBuffer() }
        var joined = ByteBufferAllocator().buffer(capacity: byteCount)
        takeParts { joined.writeImmutableBuffer($0) }
        return joined
    }

    /// Hands over the encoded frames and empties the batch.
    ///
    /// - Parameter emit: called with the parts in the order in which they go out, none of them empty. Parts that were lent
    ///   must only be read.
    package mutating func takeParts(_ emit: (ByteBuffer) -> Void) {
        let lentParts = self.lentParts
        self.lentParts = []
        lentBytes = 0
        var copied = takeBuffer()
        for part in lentParts {
            let size = part.position - copied.readerIndex
            if size > 0, let slice = copied.readSlice(length: size) { emit(slice) }
            emit(part.bytes)
        }
        if copied.readableBytes > 0 { emit(copied) }
    }

    /// Hands over what was copied and empties the batch, except for lent parts.
    private mutating func takeBuffer() -> ByteBuffer {
        dropReservation()
        settle()
        if let compressor {
            CompressorPool.giveBack(compressor)
            self.compressor = nil
        }
        expectedSize = min(buffer.readableBytes, target)
        count = 0
        isAdopted = false
        let bytes = buffer
        buffer = ByteBuffer()
        return bytes
    }

    // MARK: Inside

    private static func tooLarge(_ size: Int) -> ChanservError {
        ChanservError(.wrongFrameSize, "\(size) bytes, at most \(maxFrameSize) can be sent")
    }

    /// All the room there is from `start` on, at least `minimum` bytes, counted as written so that it is kept when the
    /// buffer grows.
    private static func room(
        in buffer: inout ByteBuffer, from start: Int, minimum: Int
    ) -> UnsafeMutableRawBufferPointer {
        let missing = start + minimum - buffer.writerIndex
        if missing > buffer.writableBytes { buffer.reserveCapacity(minimumWritableBytes: missing) }
        buffer.moveWriterIndex(forwardBy: min(buffer.writableBytes, start + maxFrameSize - buffer.writerIndex))
        // The storage is this batch's alone and is not touched before the next call, which ends the pointer's life.
        let bytes = buffer.withVeryUnsafeMutableBytes { $0 }
        return UnsafeMutableRawBufferPointer(rebasing: bytes[start..<buffer.writerIndex])
    }

    private mutating func dropReservation() {
        guard let start = reservation else { return }
        reservation = nil
        if !compression { buffer.moveWriterIndex(to: start) }
    }

    private mutating func prepareRoom() {
        if buffer.capacity < expectedSize { buffer.reserveCapacity(expectedSize) }
    }

    private mutating func takeCompressor() -> Compressor {
        if let compressor { return compressor }
        let compressor = CompressorPool.take()
        self.compressor = compressor
        return compressor
    }

    /// Turns what was written behind the length at `start` into a frame.
    ///
    /// - Parameter isRaw: whether the mark of compression means nothing where the frame goes.
    private mutating func finishFrame(at start: Int, isRaw: Bool = false) throws(ChanservError) {
        let size = buffer.writerIndex - start - WireFormat.lengthSize
        precondition(size >= 0, "a Frame removed bytes that were not its own")
        guard size <= Self.maxFrameSize else {
            buffer.moveWriterIndex(to: start)
            throw Self.tooLarge(size)
        }
        if !isRaw, size > WireFormat.compressedHead,
            buffer.getInteger(at: start + WireFormat.lengthSize, endianness: .little, as: UInt32.self)
                == WireFormat.compressedMark
        {
            let compressor = takeCompressor()
            compressor.scratch.clear()
            compressor.scratch.writeBytes(buffer.viewBytes(at: start + WireFormat.lengthSize, length: size)!)
            buffer.moveWriterIndex(to: start)
            try appendScratch(of: compressor)
            return
        }
        buffer.setInteger(UInt64(size), at: start, endianness: .little)
        count += 1
    }

    private mutating func appendScratch(of compressor: Compressor) throws(ChanservError) {
        let payload = compressor.scratch
        let size = payload.readableBytes
        guard size <= Self.maxFrameSize else { throw Self.tooLarge(size) }
        var failure: ChanservError?
        // A copy of the value, not of the bytes: the scratch is only read until this returns.
        payload.withUnsafeReadableBytes { bytes in
            if size <= WireFormat.compressedHead {
                appendRaw(bytes)
                return
            }
            let marked = bytes.loadUnaligned(as: UInt32.self) == WireFormat.compressedMark.littleEndian
            do throws(ChanservError) {
                try appendBlock(of: bytes, using: compressor, always: marked)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    private mutating func appendRaw(_ bytes: UnsafeRawBufferPointer) {
        let total = WireFormat.lengthSize + bytes.count
        if total > free { acquireRoom(total) }
        guard let room else { preconditionFailure("room was acquired") }
        room.storeBytes(of: UInt64(bytes.count).littleEndian, as: UInt64.self)
        if let source = bytes.baseAddress {
            (room + WireFormat.lengthSize).copyMemory(from: source, byteCount: bytes.count)
        }
        self.room = room + total
        free -= total
        unsettled += total
        count += 1
    }

    private mutating func acquireRoom(_ size: Int) {
        settle()
        prepareRoom()
        if buffer.writableBytes < size { buffer.reserveCapacity(minimumWritableBytes: size) }
        let start = buffer.writerIndex
        // The storage is this batch's alone and stays where it is until `settle()`.
        room = buffer.withVeryUnsafeMutableBytes { $0.baseAddress.map { $0 + start } }
        free = buffer.writableBytes
    }

    /// Lets go of `room`, so that `buffer` is all there is.
    private mutating func settle() {
        buffer.moveWriterIndex(forwardBy: unsettled)
        unsettled = 0
        free = 0
        room = nil
    }

    /// Appends `bytes` as mark, size and LZ4 block, or raw where that is not larger and `always` is not set.
    private mutating func appendBlock(
        of bytes: UnsafeRawBufferPointer, using compressor: Compressor, always: Bool
    ) throws(ChanservError) {
        settle()
        prepareRoom()
        let size = bytes.count
        let head = WireFormat.lengthSize + WireFormat.compressedHead
        let bound = Compressor.bound(size)
        let encoded = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: head + bound) { target in
            let block = UnsafeMutableRawBufferPointer(rebasing: target[head..<head + bound])
            let payload = WireFormat.compressedHead + compressor.compress(bytes, into: block)
            guard always ? payload <= Self.maxFrameSize : payload < size else { return 0 }
            target.storeBytes(of: UInt64(payload).littleEndian, as: UInt64.self)
            target.storeBytes(of: WireFormat.compressedMark.littleEndian, toByteOffset: 8, as: UInt32.self)
            target.storeBytes(of: UInt64(size).littleEndian, toByteOffset: 12, as: UInt64.self)
            return WireFormat.lengthSize + payload
        }
        if encoded > 0 {
            count += 1
        } else if always {
            throw ChanservError(
                .wrongFrameSize,
                "\(size) bytes that begin with lz4! have to be sent compressed, and do not fit in \(Self.maxFrameSize)")
        } else {
            appendRaw(bytes)
        }
    }
}
