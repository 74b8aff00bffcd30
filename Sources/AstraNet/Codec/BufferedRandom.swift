internal import NIOConcurrencyHelpers

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Unpredictable numbers from the system's generator. They are drawn in blocks: one system call for 32 numbers.
enum BufferedRandom {
    /// The maximum number of bytes of one `getentropy` call.
    private static let bytes = 256
    /// The blocks of drawn numbers. A request draws one or two numbers, so 8 blocks are enough to keep threads from
    /// waiting for each other.
    private static let blocks = (0..<8).map { _ in NIOLockedValueBox<[UInt64]>([]) }

    /// Returns the next number. Each number is returned only once.
    static func next() -> UInt64 {
        // The stack address selects the block: each thread has its own stack, and stacks are megabytes apart.
        var local: UInt8 = 0
        let index = withUnsafePointer(to: &local) { Int(bitPattern: $0) >> 20 & 7 }
        return blocks[index].withLockedValue { block in
            if let number = block.popLast() { return number }
            block = [UInt64](unsafeUninitializedCapacity: bytes / 8) { buffer, count in
                // getentropy fails only for an invalid address or more than 256 bytes.
                precondition(getentropy(buffer.baseAddress, bytes) == 0, "the system has no random numbers")
                count = bytes / 8
            }
            return block.removeLast()
        }
    }
}
