internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Memory that the processes at both ends of a link have in common, for the bytes of the streams that run from the one to the other:
/// these are then copied by the two, and not by the system, which takes several times as long.
///
/// One link's alone, to which ``Node/attach(socket:memory:)`` gives it.
public final class SharedMemory: Sendable {
    /// What a node does with it.
    public enum Use: Sendable {
        /// It takes out what the other has put there.
        case reads
        /// It puts bytes there.
        case writes
    }

    let use: Use
    /// In bytes.
    let size: Int
    private let address: UInt

    /// Maps all of a file that both processes have.
    ///
    /// - Parameters:
    ///   - descriptor: of the file, which can be closed afterwards. It must keep its size, of at most 4 GiB: where the other process
    ///     makes it shorter, or the system has no memory for a part that was never written to, this one ends with SIGBUS.
    ///   - use: what this end does with it; the other end does the opposite.
    /// - Throws: ``AstraNetError`` with code `unreachable`.
    public init(descriptor: CInt, use: Use) throws(AstraNetError) {
        var status = stat()
        let access = use == .writes ? PROT_READ | PROT_WRITE : PROT_READ
        guard fstat(descriptor, &status) == 0, let size = UInt32(exactly: status.st_size),
            let memory = mmap(nil, Int(size), access, MAP_SHARED, descriptor, 0), memory != MAP_FAILED
        else {
            throw AstraNetError(.unreachable, "memory cannot be shared: \(String(cString: strerror(errno)))")
        }
        self.use = use
        self.size = Int(size)
        address = UInt(bitPattern: memory)
    }

    deinit { munmap(UnsafeMutableRawPointer(bitPattern: address), size) }

    /// Puts `bytes` there.
    ///
    /// - Parameter offset: where, so that they fit in.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        precondition(use == .writes && offset >= 0 && bytes.count <= size - offset, "beyond what is shared")
        guard let source = bytes.baseAddress else { return }
        UnsafeMutableRawPointer(bitPattern: address + UInt(offset))?.copyMemory(from: source, byteCount: bytes.count)
    }

    /// Copies the bytes at `place`; the other end may change them meanwhile.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation` if there are no such bytes.
    func bytes(at place: SharedPlace) throws(AstraNetError) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: place.count)
        var isThere = false
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: place.count) { target in
            let room = UnsafeMutableRawBufferPointer(start: target.baseAddress, count: place.count)
            isThere = read(at: place.offset, into: room)
            return isThere ? place.count : 0
        }
        guard isThere else { throw AstraNetError(.protocolViolation, "the peer shares what is not there") }
        return bytes
    }

    /// Copies what is there; the other end may change it meanwhile.
    ///
    /// - Returns: whether there is so much.
    func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) -> Bool {
        guard offset >= 0, target.count <= size, offset <= size - target.count else { return false }
        guard let source = UnsafeRawPointer(bitPattern: address + UInt(offset)) else { return false }
        target.copyMemory(from: UnsafeRawBufferPointer(start: source, count: target.count))
        return true
    }
}
