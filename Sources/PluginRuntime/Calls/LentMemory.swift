internal import Glibc
internal import NIOConcurrencyHelpers
@_spi(CustomByteBufferAllocator) internal import NIOCore

/// Factory of `ByteBuffer`s over memory that belongs to a plugin. It detects when the last use of such a buffer ends.
///
/// NIO passes only the base address of freed storage to an allocator. So the base address alone must identify the
/// lease, although a plugin may lend the same memory several times at once. Therefore each buffer gets its own base
/// address:
///
/// - A lease occupies a slot. The base address is the nearest address below the memory whose lowest 20 bits are
///   `2 * slot + 1`. Leases that are open at the same time have different slots and so different base addresses. The
///   slot follows from the base address alone.
/// - Base addresses of leases are odd. NIO copies a buffer with the allocator of the original, so storage from
///   ``allocate`` reaches the same ``deallocate``. But that storage comes from `malloc`, whose addresses are multiples
///   of at least 8. So the two kinds cannot be confused.
/// - The bytes between the base address and the memory do not belong to the plugin and may be unmapped. They are
///   never accessed. The caller gets a slice that begins at the memory, and NIO reads, slices and copies a buffer only
///   within its slice. The base address is at least one byte below the memory, so the slice never begins at 0. That is
///   the only case in which NIO reallocates the whole storage instead of copying the slice (``reallocate`` is correct
///   there too).
/// - The slice begins at most 1 MiB above the base address, and a piece has at most 8 MiB. So every slice of a piece
///   begins below 16 MiB. From 16 MiB on NIO would copy instead of slicing.
///
/// These buffers are read-only. A write through the only reference would change the plugin's memory, and after
/// `clear()` even the bytes below it. The host only reads outgoing buffers.
enum LentMemory {
    /// Memory of one buffer. A frame larger than ``pieceLimit`` has several pieces.
    private struct Piece: Sendable {
        let lease: Lease
        /// `nonisolated(unsafe)`: the address is only read from, and only while the lease is open.
        nonisolated(unsafe) let start: UnsafeMutableRawPointer
        let size: Int
    }

    private struct Slots {
        var pieces: [Piece?] = []
        var free: [Int] = []

        mutating func insert(_ piece: Piece) -> Int? {
            if let slot = free.popLast() {
                pieces[slot] = piece
                return slot
            }
            guard pieces.count < LentMemory.slotLimit else { return nil }
            pieces.append(piece)
            return pieces.count - 1
        }

        mutating func remove(_ slot: Int) -> Piece {
            guard let piece = pieces[slot] else { preconditionFailure("a lent buffer was dropped twice") }
            pieces[slot] = nil
            free.append(slot)
            return piece
        }
    }

    /// Maximum size of one buffer: 8 MiB.
    static let pieceLimit = 8 << 20
    private static let window = 1 << 20
    private static let slotLimit = window / 2
    private static let slots = NIOLockedValueBox(Slots())

    private static let allocator = ByteBufferAllocator(
        allocate: { malloc($0) },
        reallocate: { old, oldSize, newSize in LentMemory.reallocate(old, newSize) },
        deallocate: { LentMemory.deallocate($0) },
        copy: { target, source, count in target.copyMemory(from: source, byteCount: count) })

    /// Creates the buffers over the memory of a lease, in order.
    ///
    /// - Parameters:
    ///   - data: must stay valid and unchanged until the lease ends.
    ///   - size: size in bytes, larger than 0.
    /// - Returns: `nil` if no slot is free, or if no base address exists below `data`. The lease has then not begun.
    static func buffers(over data: UnsafeRawPointer, size: Int, for lease: Lease) -> [ByteBuffer]? {
        guard UInt(bitPattern: data) > UInt(window) else { return nil }
        let count = (size + pieceLimit - 1) / pieceLimit
        // NIO requires writable memory. The host never writes to it; see the comment of the type.
        let memory = UnsafeMutableRawPointer(mutating: data)
        let taken: [Int] = slots.withLockedValue { slots in
            var taken: [Int] = []
            for offset in stride(from: 0, to: size, by: pieceLimit) {
                let piece = Piece(lease: lease, start: memory + offset, size: min(pieceLimit, size - offset))
                guard let slot = slots.insert(piece) else { break }
                taken.append(slot)
            }
            if taken.count < count {
                for slot in taken { _ = slots.remove(slot) }
                taken = []
            }
            return taken
        }
        guard !taken.isEmpty else { return nil }
        lease.begin(pieces: count)
        return taken.enumerated().map { index, slot in
            let offset = index * pieceLimit
            return buffer(over: memory + offset, size: min(pieceLimit, size - offset), slot: slot)
        }
    }

    private static func buffer(over start: UnsafeMutableRawPointer, size: Int, slot: Int) -> ByteBuffer {
        let code = UInt(2 * slot + 1)
        let address = UInt(bitPattern: start) - 1
        // Distance down to the nearest address with this code: 1 … window.
        let below = Int((address &- code) % UInt(window)) + 1
        let storage = UnsafeMutableRawBufferPointer(start: start - below, count: below + size)
        let whole = ByteBuffer(takingOwnershipOf: storage, allocator: allocator)
        guard let slice = whole.getSlice(at: below, length: size) else {
            preconditionFailure("the slice lies within the storage")
        }
        return slice
    }

    private static func isLent(_ base: UnsafeMutableRawPointer) -> Bool { UInt(bitPattern: base) & 1 == 1 }

    private static func removePiece(_ base: UnsafeMutableRawPointer) -> Piece {
        let slot = Int(UInt(bitPattern: base) % UInt(window)) / 2
        return slots.withLockedValue { $0.remove(slot) }
    }

    private static func deallocate(_ base: UnsafeMutableRawPointer) {
        guard isLent(base) else { return free(base) }
        removePiece(base).lease.pieceReturned()
    }

    private static func reallocate(
        _ old: UnsafeMutableRawPointer?, _ newSize: Int
    ) -> UnsafeMutableRawPointer? {
        guard let old, isLent(old) else { return realloc(old, newSize) }
        let piece = removePiece(old)
        guard let new = malloc(newSize) else { return nil }
        let below = piece.start - old
        (new + below).copyMemory(from: piece.start, byteCount: max(0, min(piece.size, newSize - below)))
        piece.lease.pieceReturned()
        return new
    }
}
