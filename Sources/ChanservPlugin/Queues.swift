/// What waits between an author's task and the host. Its bound is what makes the task wait.
protocol PipeQueue: SendableMetatype {
    init()
    var isEmpty: Bool { get }
    /// Whether an item of this size can be added; an empty queue takes any.
    func hasRoom(for size: Int) -> Bool
}

/// Frames in their order: small ones packed one behind the other, large ones as the author's own memory, and functions
/// that make a frame in the host's.
struct FrameQueue: PipeQueue {
    /// Writes a frame into room that is given.
    typealias Fill = @Sendable (inout OutputRawSpan) throws -> Void

    private enum Large {
        case bytes([UInt8])
        case lent(UnsafeRawBufferPointer, owner: AnyObject)
        case fill(Fill, capacity: Int)
    }

    private static let byteLimit = 256 * 1024
    private static let frameLimit = 1024
    /// From this size on it costs less to keep an author's array than to copy it.
    static let largeSize = 2048

    private var bytes: [UInt8] = []
    /// One number for each frame: where it ends in `bytes`, or below zero the complement of its index in `large`.
    private var frames: [Int] = []
    private var large: [Large] = []
    /// Of all frames, those in `bytes` too.
    private var size = 0
    // Frames before this one were taken, up to this byte of `bytes`. All are dropped together once the last one is.
    private var taken = 0
    private var takenBytes = 0

    init() {}

    var isEmpty: Bool { taken == frames.count }

    func hasRoom(for size: Int) -> Bool {
        isEmpty || (frames.count < Self.frameLimit && self.size + size <= Self.byteLimit)
    }

    mutating func append(_ frame: UnsafeRawBufferPointer) {
        // One that is copied in one go is better off with memory of its own size than with a buffer that grows.
        if frame.count > Self.byteLimit / 4 { return append(sharing: [UInt8](frame)) }
        bytes.append(contentsOf: frame)
        frames.append(bytes.count)
        size += frame.count
    }

    /// A large frame, whose memory is kept as it is.
    mutating func append(sharing frame: [UInt8]) {
        frames.append(~large.count)
        large.append(.bytes(frame))
        size += frame.count
    }

    /// A frame in memory that stays as it is while `owner` lives.
    mutating func append(lending frame: UnsafeRawBufferPointer, of owner: AnyObject) {
        frames.append(~large.count)
        large.append(.lent(frame, owner: owner))
        size += frame.count
    }

    mutating func append(capacity: Int, _ fill: @escaping Fill) {
        frames.append(~large.count)
        large.append(.fill(fill, capacity: capacity))
        size += capacity
    }

    /// Offers frames in order until one is not taken.
    ///
    /// - Parameters:
    ///   - take: whether it took the frame.
    ///   - lend: whether it took the frame, perhaps only for as long as it keeps the owner.
    ///   - fill: whether it had so much room, and let the frame be made in it.
    mutating func drain(
        take: (UnsafeRawBufferPointer) -> Bool, lend: (UnsafeRawBufferPointer, _ owner: AnyObject) -> Bool,
        fill: (_ capacity: Int, Fill) throws -> Bool
    ) rethrows {
        try bytes.withUnsafeBytes { bytes in
            while taken < frames.count {
                let frame = frames[taken]
                if frame >= 0 {
                    guard take(UnsafeRawBufferPointer(rebasing: bytes[takenBytes..<frame])) else { return }
                    takenBytes = frame
                } else {
                    switch large[~frame] {
                    case .bytes(let bytes): guard bytes.withUnsafeBytes(take) else { return }
                    case .lent(let bytes, let owner): guard lend(bytes, owner) else { return }
                    case .fill(let body, let capacity): guard try fill(capacity, body) else { return }
                    }
                }
                taken += 1
            }
        }
        guard isEmpty else { return }
        // The memory is used again, but for that of a large frame.
        bytes.removeAll(keepingCapacity: bytes.count <= Self.byteLimit)
        frames.removeAll(keepingCapacity: true)
        large.removeAll(keepingCapacity: true)
        (size, taken, takenBytes) = (0, 0, 0)
    }
}

/// Sources that the host has not taken yet.
struct SourceQueue: PipeQueue {
    private static let limit = 64

    private var sources: [Source] = []
    private var taken = 0

    init() {}

    var isEmpty: Bool { taken == sources.count }

    func hasRoom(for size: Int) -> Bool { sources.count < Self.limit }

    mutating func append(_ source: Source) {
        sources.append(source)
    }

    /// Offers sources in order until one is not taken.
    mutating func drain(_ take: (Source) -> Bool) {
        while taken < sources.count {
            guard take(sources[taken]) else { return }
            taken += 1
        }
        sources.removeAll(keepingCapacity: true)
        taken = 0
    }
}
