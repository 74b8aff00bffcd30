/// Decides when a view of the mesh is complete enough to be shown.
///
/// The protocol has no message that says that a node has announced all its services, or that a router knows no further
/// host. The view counts as settled if nothing has changed for some time.
package struct MeshSettling: Sendable {
    /// Time without a change after which the view is settled.
    ///
    /// Nodes announce changes at once, Go nodes every 50 ms. The default (600 ms) also covers the setup of direct
    /// links.
    private let quiet: Duration
    private let deadline: Duration
    private var last: MeshSnapshot?
    /// Time of the last change, since the start.
    private var since = Duration.zero

    /// - Parameters:
    ///   - quiet: the time without a change after which the view is settled.
    ///   - deadline: the time since the start after which the view counts as settled in any case.
    package init(quiet: Duration = .milliseconds(600), deadline: Duration) {
        self.quiet = quiet
        self.deadline = deadline
    }

    /// Returns when to look again, as a time since the start, unless something changes earlier; `nil` if the view has
    /// settled.
    ///
    /// - Parameters:
    ///   - picture: the current view.
    ///   - time: the current time since the start.
    package mutating func nextLook(after picture: MeshSnapshot, at time: Duration) -> Duration? {
        let shape = picture.withoutRoundTrips
        if shape != last {
            last = shape
            since = time
        }
        let next = picture.isMeasured ? min(since + quiet, deadline) : deadline
        return time >= next ? nil : next
    }
}
