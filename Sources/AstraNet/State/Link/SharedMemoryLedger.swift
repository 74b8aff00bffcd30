/// Which bytes of a link's shared memory are in use.
///
/// A node that can take bytes from the memory says READS. Then SHARED comes in place of DATA, with the place of the bytes, and in
/// the same order. TAKEN tells how many SHARED were read, so that their places can be used again. Only the two nodes of such a link
/// know these ops.
struct SharedMemoryLedger: Hashable, Sendable {
    /// Fewer bytes than this are as quick through the connection: 4 KiB.
    static let worthSharing = 4_096

    /// What this node does with the memory; `nil` if the link has none.
    let use: SharedMemory.Use?
    /// In bytes.
    private let size: Int
    /// The free part of the memory that this node writes to; `nil` until the peer has said READS.
    private var space: RingSpace?
    /// How many SHARED were read that the peer was not told of.
    private var takenPlaces: UInt32 = 0
    /// How many bytes those were.
    private var takenBytes = 0

    init(_ use: SharedMemory.Use?, size: Int) {
        self.use = use
        self.size = size
    }

    /// READS: the peer takes bytes from the memory.
    mutating func receivedReads() {
        if use == .writes, space == nil { space = RingSpace(size: size) }
    }

    /// TAKEN.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation`.
    mutating func receivedTaken(_ count: UInt32?) throws(AstraNetError) {
        guard use == .writes else { return }
        guard let count, space?.giveBack(Int(count)) == true else {
            throw AstraNetError(.protocolViolation, "the peer has taken more than was shared")
        }
    }

    /// SHARED. Returns where the bytes are; `nil` if this node reads no memory.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation`.
    mutating func receivedShared(_ place: SharedPlace?) throws(AstraNetError) -> SharedPlace? {
        guard use == .reads else { return nil }
        guard let place else {
            throw AstraNetError(.protocolViolation, "the peer does not say what it shares")
        }
        takenPlaces += 1
        takenBytes += place.count
        // The peer was not told of any of these, so all lie in the memory at once. A peer that names places twice would make this
        // node copy for as long as streams have room, for a few bytes on the connection.
        guard takenBytes <= size else {
            throw AstraNetError(.protocolViolation, "the peer shares more than there is room for")
        }
        return place
    }

    /// Takes the number of SHARED that the peer was not told of.
    mutating func takeTaken() -> UInt32 {
        defer {
            takenPlaces = 0
            takenBytes = 0
        }
        return takenPlaces
    }

    /// Takes room for `count` bytes. Returns where it begins; `nil` if the bytes must go through the connection.
    mutating func share(_ count: Int) -> Int? {
        guard count >= Self.worthSharing else { return nil }
        return space?.take(count)
    }
}
