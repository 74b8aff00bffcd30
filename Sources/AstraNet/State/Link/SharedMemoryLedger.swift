/// The use of a link's shared memory (`docs/protocol.md` §7).
///
/// A node that can read the memory sends READS. From then on the peer may send SHARED in place of DATA, in the same
/// order. SHARED contains the place of the bytes. TAKEN returns the number of SHARED that were read, so that their
/// places are free again. On links without shared memory these ops are unknown commands.
struct SharedMemoryLedger: Hashable, Sendable {
    /// The minimum number of bytes for SHARED: 4 KiB. Fewer bytes are as fast as DATA.
    static let worthSharing = 4_096

    /// The direction in which this node uses the memory; `nil` if the link has none.
    let use: SharedMemory.Use?
    /// The size of the memory in bytes.
    private let size: Int
    /// The allocator for the memory that this node writes; `nil` before the peer has sent READS.
    private var space: RingSpace?
    /// The number of SHARED that were read and not yet reported with TAKEN.
    private var takenPlaces: UInt32 = 0
    /// The number of bytes of those SHARED.
    private var takenBytes = 0

    init(_ use: SharedMemory.Use?, size: Int) {
        self.use = use
        self.size = size
    }

    /// Handles READS: the peer reads the memory.
    mutating func receivedReads() {
        if use == .writes, space == nil { space = RingSpace(size: size) }
    }

    /// Handles TAKEN.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation`.
    mutating func receivedTaken(_ count: UInt32?) throws(AstraNetError) {
        guard use == .writes else { return }
        guard let count, space?.giveBack(Int(count)) == true else {
            throw AstraNetError(.protocolViolation, "TAKEN of more than was shared")
        }
    }

    /// Handles SHARED. Returns the place of the bytes; `nil` if this node does not read the memory.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation`.
    mutating func receivedShared(_ place: SharedPlace?) throws(AstraNetError) -> SharedPlace? {
        guard use == .reads else { return nil }
        guard let place else {
            throw AstraNetError(.protocolViolation, "SHARED with an invalid payload")
        }
        takenPlaces += 1
        takenBytes += place.count
        // These places are not yet reported, so all of them are in the memory at the same time. Without this check, a
        // peer could name the same place again and again, and make this node copy many bytes for a few bytes on the
        // connection.
        guard takenBytes <= size else {
            throw AstraNetError(.protocolViolation, "SHARED of more bytes than the shared memory has")
        }
        return place
    }

    /// Takes the number of SHARED to report with TAKEN.
    mutating func takeTaken() -> UInt32 {
        defer {
            takenPlaces = 0
            takenBytes = 0
        }
        return takenPlaces
    }

    /// Allocates a place for `count` bytes. Returns its offset; `nil` if the bytes must be sent as DATA.
    mutating func share(_ count: Int) -> Int? {
        guard count >= Self.worthSharing else { return nil }
        return space?.take(count)
    }
}
