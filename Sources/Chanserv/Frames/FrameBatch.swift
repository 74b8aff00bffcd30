import NIOCore

/// A batch of outgoing frames, encoded as they are appended.
///
/// A producer appends frames until the batch ``isFull``. The server then writes the batch to the connection. Frames are
/// copied into one buffer, except those that ``append(lent:)`` stores without a copy. A batch cannot be copied. A C
/// function pointer, such as the frame sink of the plugin ABI, accesses it through `withUnsafeMutablePointer(to:)`.
public struct FrameBatch: ~Copyable, Sendable {
    /// Maximum payload of a frame: 104,857,600 bytes, 100 MiB (`docs/protocol.md` §5).
    public static let maxFrameSize = WireFormat.maxFrameSize

    /// Size in bytes at which the batch is full. Default 65,536, the initial window of a stream.
    public let target: Int
    /// Whether payloads of more than 12 bytes are compressed if that makes them smaller.
    public let compression: Bool
    /// The number of frames in the batch.
    public private(set) var count = 0
    /// Whether the batch holds bytes that were encoded elsewhere. They may be only a part of a frame.
    private var isAdopted = false

    /// A frame, or a part of one, that was not copied. It is sent between the bytes of `buffer`.
    private struct LentPart {
        /// Index in `buffer` of the first byte that is sent after this part.
        let position: Int
        let bytes: ByteBuffer
    }

    /// Minimum size of a frame that is not copied: 8 KiB. Copying a smaller one costs less than a separate part.
    public static let lentSizeMin = 8_192

    private var buffer = ByteBuffer()
    /// The parts in the order in which they are sent.
    private var lentParts: [LentPart] = []
    /// The total number of bytes in `lentParts`.
    private var lentBytes = 0
    /// The position for the next copied frame: free memory of `buffer` behind its writer index. It is cached so that a
    /// small frame costs only its copy. `nonisolated(unsafe)` is safe: only this batch refers to the memory, and
    /// `settle()` clears the pointer before `buffer` is used in any other way.
    private nonisolated(unsafe) var room: UnsafeMutableRawPointer?
    /// The number of free bytes at `room`.
    private var free = 0
    /// The number of bytes before `room` that are written but not yet included in `buffer`'s writer index.
    private var unsettled = 0
    private var compressor: Compressor?
    /// The start of the frame that is being filled; `nil` if there is none. If the frame will be compressed, it lies in
    /// the scratch buffer of `compressor`, at 0.
    private var reservation: Int?
    /// The size of the last batch. Reserving it for the next batch avoids repeated growth.
    private var expectedSize = 0

    /// Creates an empty batch.
    ///
    /// - Parameters:
    ///   - compression: whether payloads are compressed. Default `false`.
    ///   - target: size in bytes at which the batch is full. Default 65,536.
    public init(compression: Bool = false, target: Int = 65_536) {
        self.compression = compression
        self.target = max(1, target)
    }

    deinit {
        if let compressor { CompressorPool.giveBack(compressor) }
    }

    /// Whether the batch is empty.
    public var isEmpty: Bool { count == 0 && !isAdopted }

    /// The number of encoded bytes in the batch.
    public var byteCount: Int {
        if let reservation, !compression { return reservation + lentBytes }
        return buffer.readableBytes + unsettled + lentBytes
    }

    /// Whether the producer should stop appending. Appending to a full batch is allowed and makes it larger.
    public var isFull: Bool { byteCount >= target }

    /// Returns whether a frame of `size` bytes fits below the target. An empty batch has room for every frame that may
    /// be sent.
    public func hasCapacity(for size: Int) -> Bool {
        guard size >= 0, size <= Self.maxFrameSize else { return false }
        return isEmpty || byteCount + WireFormat.lengthSize + size <= target
    }

    // MARK: Whole frames

    /// Appends a frame. Drops a reservation that was not committed.
    ///
    /// - Throws: ``ChanservError`` with code `wrongFrameSize` if the payload, or its mandatory compressed form, is
    ///   larger than ``maxFrameSize``. The batch is unchanged then.
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

    /// Appends a frame of a master stream without compression. Only frames of sources may be compressed, so a payload
    /// that begins with the compression mark stays as it is (`docs/protocol.md` §5).
    ///
    /// - Throws: ``ChanservError`` with code `wrongFrameSize` if the payload is larger than ``maxFrameSize``. The batch
    ///   is unchanged then.
    package mutating func append(uncompressed frame: some Frame) throws(ChanservError) {
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

    /// Returns whether ``append(lent:)`` sends a payload without a copy: it has at least ``lentSizeMin`` bytes, the
    /// batch does not compress, and the payload does not begin with the compression mark.
    package func isSentAsIs(_ payload: UnsafeRawBufferPointer) -> Bool {
        payload.count >= Self.lentSizeMin && !compression
            && payload.loadUnaligned(as: UInt32.self) != WireFormat.compressedMark.littleEndian
    }

    /// Appends a frame whose payload is the readable bytes of `payload`. The buffer is retained until it is sent and is
    /// not copied. Small payloads and those that are compressed are copied.
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

    /// Appends one frame whose payload is the readable bytes of `pieces` in order.
    ///
    /// - Parameter pieces: a payload for which ``isSentAsIs(_:)`` is `true` as a whole, at most ``maxFrameSize`` bytes.
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

    /// Returns memory inside the outgoing buffer for a frame whose length is not known yet.
    ///
    /// The memory is valid until the next call on the batch. A second call before ``commit(size:)`` enlarges the memory
    /// and keeps its content, perhaps at another address.
    ///
    /// - Parameter minimum: the minimum number of bytes.
    /// - Returns: at least `minimum` bytes; `nil` if the batch is not empty and has no room, or if `minimum` is larger
    ///   than ``maxFrameSize``.
    public mutating func reserve(minimum: Int) -> UnsafeMutableRawBufferPointer? {
        guard hasCapacity(for: minimum) else { return nil }
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

    /// Makes a frame of the first `size` bytes of the reservation.
    ///
    /// - Throws: ``ChanservError`` with code `wrongFrameSize` if nothing was reserved, or if `size` is larger than the
    ///   reservation or than ``maxFrameSize``. The reservation is dropped then.
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
    ///   - bytes: encoded frames; the first and the last one may be incomplete.
    ///   - frames: the number of frames that end in `bytes`.
    package mutating func adopt(_ bytes: ByteBuffer, frames: Int) {
        precondition(isEmpty, "a batch that is not empty adopted bytes")
        dropReservation()
        settle()
        buffer = bytes
        count = frames
        isAdopted = true
    }

    // MARK: Output

    /// Returns the encoded frames as one buffer and empties the batch. Lent frames are copied into the buffer.
    package mutating func take() -> ByteBuffer {
        guard !lentParts.isEmpty else { return takeBuffer() }
        var joined = ByteBufferAllocator().buffer(capacity: byteCount)
        takeParts { joined.writeImmutableBuffer($0) }
        return joined
    }

    /// Passes the encoded frames to `emit` and empties the batch.
    ///
    /// - Parameter emit: called with the non-empty parts in the order in which they are sent. Lent parts must only be
    ///   read.
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

    /// Returns the copied bytes and empties the batch, except for lent parts.
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

    // MARK: Implementation

    private static func tooLarge(_ size: Int) -> ChanservError {
        ChanservError(.wrongFrameSize, "\(size) bytes, at most \(maxFrameSize) can be sent")
    }

    /// Returns all free memory from `start` on, at least `minimum` bytes. The memory is included in the writer index so
    /// that it survives growth of the buffer.
    private static func room(
        in buffer: inout ByteBuffer, from start: Int, minimum: Int
    ) -> UnsafeMutableRawBufferPointer {
        let missing = start + minimum - buffer.writerIndex
        if missing > buffer.writableBytes { buffer.reserveCapacity(minimumWritableBytes: missing) }
        buffer.moveWriterIndex(forwardBy: min(buffer.writableBytes, start + maxFrameSize - buffer.writerIndex))
        // Only this batch refers to the storage. The next call on the batch ends the validity of the pointer.
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

    /// Encodes the bytes that were written behind the length at `start` as a frame.
    ///
    /// - Parameter isRaw: whether the compression mark has no meaning at the receiver.
    private mutating func finishFrame(at start: Int, isRaw: Bool = false) throws(ChanservError) {
        let size = buffer.writerIndex - start - WireFormat.lengthSize
        precondition(size >= 0, "a Frame removed bytes that it had not written")
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
        // This copies the reference, not the bytes. Until this function returns, the scratch buffer is only read.
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
        // Only this batch refers to the storage, and it does not move until `settle()`.
        room = buffer.withVeryUnsafeMutableBytes { $0.baseAddress.map { $0 + start } }
        free = buffer.writableBytes
    }

    /// Clears `room` and includes its bytes in `buffer`.
    private mutating func settle() {
        buffer.moveWriterIndex(forwardBy: unsettled)
        unsettled = 0
        free = 0
        room = nil
    }

    /// Appends `bytes` as mark, size and LZ4 block. Appends them raw if the block is not smaller and `always` is
    /// `false`.
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
