/// The memory of a frame that can be lent to the host any number of times without a copy: see ``FrameWriter/lend(_:)``.
///
/// It never changes after its creation. It is freed when it is no longer referenced, by the plugin or the host.
public final class FrameBuffer: Sendable {
    /// The frame.
    ///
    /// Safe to share: only the initialiser writes to it, before any other reference exists.
    nonisolated(unsafe) let bytes: UnsafeRawBufferPointer

    /// Creates a frame in place.
    ///
    /// - Parameters:
    ///   - capacity: maximum size of the frame in bytes.
    ///   - fill: writes the frame. The bytes that it has written when it returns are the frame.
    public init(capacity: Int, _ fill: (_ room: inout OutputRawSpan) throws -> Void) rethrows {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, capacity), alignment: 16)
        do {
            var span = OutputRawSpan(buffer: memory, initializedCount: 0)
            try fill(&span)
            bytes = UnsafeRawBufferPointer(rebasing: memory[..<span.finalize(for: memory)])
        } catch {
            memory.deallocate()
            throw error
        }
    }

    /// Creates a frame with a copy of `bytes`.
    public init(_ bytes: some Collection<UInt8>) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
        memory.copyBytes(from: bytes)
        self.bytes = UnsafeRawBufferPointer(rebasing: memory[..<bytes.count])
    }

    deinit { bytes.deallocate() }

    /// The size of the frame in bytes.
    public var count: Int { bytes.count }
}
