/// Memory of a frame that can be lent to the host any number of times, without a copy: see ``FrameWriter/lend(_:)``.
///
/// It does not change after it was made, and is freed when nobody refers to it any more, the host included.
public final class FrameBuffer: Sendable {
    /// The frame.
    ///
    /// Safe to share: written by the initialiser only, before there is another reference.
    nonisolated(unsafe) let bytes: UnsafeRawBufferPointer

    /// Makes a frame in place.
    ///
    /// - Parameters:
    ///   - capacity: how many bytes it has at most.
    ///   - fill: what it has written when it returns is the frame.
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

    /// Makes a frame that is a copy of `bytes`.
    public init(_ bytes: some Collection<UInt8>) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
        memory.copyBytes(from: bytes)
        self.bytes = UnsafeRawBufferPointer(rebasing: memory[..<bytes.count])
    }

    deinit { bytes.deallocate() }

    /// How many bytes the frame has.
    public var count: Int { bytes.count }
}
