/// A bounded queue between a task of the plugin and the host. When it is full, the task waits.
protocol PipeQueue: SendableMetatype {
    init()
    var isEmpty: Bool { get }
    /// Returns whether an item of this size fits. An empty queue accepts any item.
    func hasCapacity(for size: Int) -> Bool
}

/// A queue of frames: small frames are packed into one array, large frames stay in the plugin's memory, and functions
/// create a frame in the host's memory.
struct FrameQueue: PipeQueue {
    /// Writes a frame into the given memory.
    typealias Fill = @Sendable (inout OutputRawSpan) throws -> Void

    private enum Large {
        case bytes([UInt8])
        case lent(UnsafeRawBufferPointer, owner: AnyObject)
        case fill(Fill, capacity: Int)
    }

    private static let byteLimit = 256 * 1024
    private static let frameLimit = 1024
    /// Minimum size from which retaining the plugin's array costs less than copying it.
    static let largeSize = 2048

    private var bytes: [UInt8] = []
    /// One number for each frame: its end in `bytes`, or, if negative, the complement of its index in `large`.
    private var frames: [Int] = []
    private var large: [Large] = []
    /// The total size of all frames, including those in `bytes`.
    private var size = 0
    // The number of frames that were taken, and their end in `bytes`. All frames are removed together after the last
    // was taken.
    private var taken = 0
    private var takenBytes = 0

    init() {}

    var isEmpty: Bool { taken == frames.count }

    func hasCapacity(for size: Int) -> Bool {
        isEmpty || (frames.count < Self.frameLimit && self.size + size <= Self.byteLimit)
    }

    mutating func append(_ frame: UnsafeRawBufferPointer) {
        // Copying a large frame into memory of exactly its size costs less than growing `bytes`.
        if frame.count > Self.byteLimit / 4 { return append(sharing: [UInt8](frame)) }
        bytes.append(contentsOf: frame)
        frames.append(bytes.count)
        size += frame.count
    }

    /// Adds a large frame without copying it.
    mutating func append(sharing frame: [UInt8]) {
        frames.append(~large.count)
        large.append(.bytes(frame))
        size += frame.count
    }

    /// Adds a frame in memory that does not change while `owner` is retained.
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
    ///   - take: returns whether it took the frame.
    ///   - lend: returns whether it took the frame. It may retain the owner and use the bytes later.
    ///   - fill: returns whether it had room of this capacity and let the function create the frame in it.
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
        // The memory is reused, unless it grew for a large frame.
        bytes.removeAll(keepingCapacity: bytes.count <= Self.byteLimit)
        frames.removeAll(keepingCapacity: true)
        large.removeAll(keepingCapacity: true)
        (size, taken, takenBytes) = (0, 0, 0)
    }
}

/// A queue of sources that the host has not taken.
struct SourceQueue: PipeQueue {
    private static let limit = 64

    private var sources: [Source] = []
    private var taken = 0

    init() {}

    var isEmpty: Bool { taken == sources.count }

    func hasCapacity(for size: Int) -> Bool { sources.count < Self.limit }

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
