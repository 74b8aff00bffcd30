internal import NIOConcurrencyHelpers

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Unpredictable numbers of the system's generator, drawn in blocks: one system call for 32 numbers.
enum BufferedRandom {
    /// What `getentropy` gives at once at most.
    private static let bytes = 256
    /// A number is drawn once or twice per request, so that a few blocks keep threads from meeting at one.
    private static let blocks = (0..<8).map { _ in NIOLockedValueBox<[UInt64]>([]) }

    /// Returns the next number. No number is handed out twice.
    static func next() -> UInt64 {
        // Threads have stacks of their own, megabytes apart.
        var local: UInt8 = 0
        let index = withUnsafePointer(to: &local) { Int(bitPattern: $0) >> 20 & 7 }
        return blocks[index].withLockedValue { block in
            if let number = block.popLast() { return number }
            block = [UInt64](unsafeUninitializedCapacity: bytes / 8) { buffer, count in
                // It fails for an address that is not the process's or a size above 256 only.
                precondition(getentropy(buffer.baseAddress, bytes) == 0, "the system has no random numbers")
                count = bytes / 8
            }
            return block.removeLast()
        }
    }
}
