internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Memory that the processes at both ends of a link share, for the bytes of the streams in one direction.
///
/// The two processes copy these bytes themselves. Without it the system copies them, which takes several times longer.
/// The memory belongs to one link, the one that ``Node/attach(socket:memory:)`` makes.
public final class SharedMemory: Sendable {
    /// The direction in which a node uses the memory.
    public enum Use: Sendable {
        /// The node reads bytes that the peer has written.
        case reads
        /// The node writes bytes.
        case writes
    }

    let use: Use
    /// The size in bytes.
    let size: Int
    private let address: UInt

    /// Maps a whole file that both processes have open.
    ///
    /// - Parameters:
    ///   - descriptor: a descriptor of the file. The caller may close it afterwards. The file must keep its size, which
    ///     is at most 4 GiB. If the other process truncates it, or the system has no memory for a part that was never
    ///     written, this process ends with SIGBUS.
    ///   - use: the direction in which this node uses the memory. The peer uses the opposite one.
    /// - Throws: ``AstraNetError`` with code `unreachable`.
    public init(descriptor: CInt, use: Use) throws(AstraNetError) {
        var status = stat()
        let access = use == .writes ? PROT_READ | PROT_WRITE : PROT_READ
        guard fstat(descriptor, &status) == 0, let size = UInt32(exactly: status.st_size),
            let memory = mmap(nil, Int(size), access, MAP_SHARED, descriptor, 0), memory != MAP_FAILED
        else {
            throw AstraNetError(.unreachable, "cannot map the shared memory: \(String(cString: strerror(errno)))")
        }
        self.use = use
        self.size = Int(size)
        address = UInt(bitPattern: memory)
    }

    deinit { munmap(UnsafeMutableRawPointer(bitPattern: address), size) }

    /// Writes `bytes` to the memory.
    ///
    /// - Parameter offset: the position of the first byte. The bytes must fit behind it.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        precondition(
            use == .writes && offset >= 0 && bytes.count <= size - offset, "write outside of the shared memory")
        guard let source = bytes.baseAddress else { return }
        UnsafeMutableRawPointer(bitPattern: address + UInt(offset))?.copyMemory(from: source, byteCount: bytes.count)
    }

    /// Copies the bytes at `place`. The peer may change them during the copy.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation` if the place is not inside the memory.
    func bytes(at place: SharedPlace) throws(AstraNetError) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: place.count)
        var isThere = false
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: place.count) { target in
            let room = UnsafeMutableRawBufferPointer(start: target.baseAddress, count: place.count)
            isThere = read(at: place.offset, into: room)
            return isThere ? place.count : 0
        }
        guard isThere else {
            throw AstraNetError(.protocolViolation, "the peer refers to bytes outside of the shared memory")
        }
        return bytes
    }

    /// Copies bytes from the memory to `target`. The peer may change them during the copy.
    ///
    /// - Returns: `false` if the bytes are not all inside the memory.
    func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) -> Bool {
        guard offset >= 0, target.count <= size, offset <= size - target.count else { return false }
        guard let source = UnsafeRawPointer(bitPattern: address + UInt(offset)) else { return false }
        target.copyMemory(from: UnsafeRawBufferPointer(start: source, count: target.count))
        return true
    }
}
