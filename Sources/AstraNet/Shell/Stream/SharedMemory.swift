internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Memory shared by the two processes of a link (`docs/protocol.md` §7). It carries bytes of streams in one direction.
///
/// The processes copy the bytes to and from this memory. A copy by the kernel through the socket takes several times as
/// long. Each link needs its own memory; see ``Node/attach(socket:memory:)``.
public final class SharedMemory: Sendable {
    /// The role of a node in using the memory.
    public enum Use: Sendable {
        /// The node reads the bytes that the peer has written.
        case reads
        /// The node writes bytes.
        case writes
    }

    let use: Use
    /// Size in bytes.
    let size: Int
    private let address: UInt

    /// Maps a file that both processes have open.
    ///
    /// - Parameters:
    ///   - descriptor: the file descriptor, which the caller may close afterwards. The file must have at most 4 GiB and
    ///     keep its size. If the other process truncates it, or the system has no memory for a page that was never
    ///     written, this process ends with SIGBUS.
    ///   - use: the role of this node. The peer has the other role.
    /// - Throws: ``AstraNetError`` with code `unreachable` if the file cannot be mapped.
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

    /// Copies `bytes` into the memory.
    ///
    /// - Parameter offset: the position in bytes. The bytes must fit behind it.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        precondition(use == .writes && offset >= 0 && bytes.count <= size - offset, "write outside the shared memory")
        guard let source = bytes.baseAddress else { return }
        UnsafeMutableRawPointer(bitPattern: address + UInt(offset))?.copyMemory(from: source, byteCount: bytes.count)
    }

    /// Returns a copy of the bytes at `place`. The peer may change them during the copy.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation` if the place is outside of the memory.
    func bytes(at place: SharedPlace) throws(AstraNetError) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: place.count)
        var isInside = false
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: place.count) { target in
            let room = UnsafeMutableRawBufferPointer(start: target.baseAddress, count: place.count)
            isInside = read(at: place.offset, into: room)
            return isInside ? place.count : 0
        }
        guard isInside else {
            throw AstraNetError(.protocolViolation, "the peer names bytes outside of the shared memory")
        }
        return bytes
    }

    /// Copies bytes of the memory into `target`, which sets their number. The peer may change them during the copy.
    ///
    /// - Returns: whether the bytes lie inside the memory. If not, nothing is copied.
    func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) -> Bool {
        guard offset >= 0, target.count <= size, offset <= size - target.count else { return false }
        guard let source = UnsafeRawPointer(bitPattern: address + UInt(offset)) else { return false }
        target.copyMemory(from: UnsafeRawBufferPointer(start: source, count: target.count))
        return true
    }
}
