/// When a picture of the mesh that is still coming together is whole enough to be shown.
///
/// Nothing in the protocol says that a node has named all its services, or that a router knows no further host; that nothing
/// has changed for a moment is as good as it gets.
struct MeshSettling: Sendable {
    /// Nodes announce what is new at once, Go nodes every 50 ms; direct links to what they name are made meanwhile.
    private let quiet: Duration
    private let deadline: Duration
    private var last: MeshPicture?
    private var since = Duration.zero

    /// - Parameters:
    ///   - quiet: how long nothing may change.
    ///   - deadline: when to be content with what there is.
    init(quiet: Duration = .milliseconds(600), deadline: Duration) {
        self.quiet = quiet
        self.deadline = deadline
    }

    /// - Parameters:
    ///   - picture: as it is now.
    ///   - time: since the start.
    /// - Returns: when to look again unless something changes before, since the start; `nil` where it has settled.
    mutating func nextLook(after picture: MeshPicture, at time: Duration) -> Duration? {
        let shape = picture.withoutRoundTrips
        if shape != last {
            last = shape
            since = time
        }
        let next = picture.isMeasured ? min(since + quiet, deadline) : deadline
        return time >= next ? nil : next
    }
}
