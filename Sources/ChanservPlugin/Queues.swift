/// What waits between an author's task and the host. Its bound is what makes the task wait.
protocol PipeQueue: SendableMetatype {
    associatedtype Item: Sendable
    init()
    var isEmpty: Bool { get }
    /// Whether the item can be added; an empty queue takes any.
    func hasRoom(for item: Item) -> Bool
    mutating func append(_ item: Item)
}

/// Frames, packed one behind the other.
struct FrameQueue: PipeQueue {
    private static let byteLimit = 256 * 1024
    private static let frameLimit = 1024

    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    // The frames before this one were taken: `ends[..<taken]`. All are dropped together once the last one is.
    private var taken = 0

    init() {}

    var isEmpty: Bool { taken == ends.count }

    func hasRoom(for frame: [UInt8]) -> Bool {
        isEmpty || (ends.count < Self.frameLimit && bytes.count + frame.count <= Self.byteLimit)
    }

    mutating func append(_ frame: [UInt8]) {
        if bytes.isEmpty && frame.count > Self.byteLimit {
            bytes = frame  // a large frame shares the author's array instead of being copied
        } else {
            bytes.append(contentsOf: frame)
        }
        ends.append(bytes.count)
    }

    /// Offers frames in order until one is not taken.
    ///
    /// - Parameter take: whether it took the frame.
    mutating func drain(_ take: (UnsafeRawBufferPointer) -> Bool) {
        bytes.withUnsafeBytes { bytes in
            while taken < ends.count {
                let start = taken == 0 ? 0 : ends[taken - 1]
                guard take(UnsafeRawBufferPointer(rebasing: bytes[start..<ends[taken]])) else { return }
                taken += 1
            }
        }
        if isEmpty {
            // The memory is used again, but for that of a large frame.
            bytes.removeAll(keepingCapacity: bytes.count <= Self.byteLimit)
            ends.removeAll(keepingCapacity: true)
            taken = 0
        }
    }
}

/// Sources that the host has not taken yet.
struct SourceQueue: PipeQueue {
    private static let limit = 64

    private var sources: [Source] = []
    private var taken = 0

    init() {}

    var isEmpty: Bool { taken == sources.count }

    func hasRoom(for source: Source) -> Bool { sources.count < Self.limit }

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
