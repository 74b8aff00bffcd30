/// The deadlines of a request at the server, without those of its sources. `nil` for one that is not running.
struct RequestDeadlines {
    var body: ContinuousClock.Instant?
    /// For the listing as a whole.
    var serving: ContinuousClock.Instant?
    /// For the next source.
    var sourcing: ContinuousClock.Instant?
    /// For the client to make room for an announcement.
    var announcing: ContinuousClock.Instant?
    /// The deadline that the client set.
    var client: ContinuousClock.Instant?

    var next: ContinuousClock.Instant? {
        var next = earlier(body, serving)
        next = earlier(next, sourcing)
        next = earlier(next, announcing)
        return earlier(next, client)
    }
}

/// Returns the earlier of two deadlines; `nil` means no deadline.
func earlier(_ one: ContinuousClock.Instant?, _ other: ContinuousClock.Instant?) -> ContinuousClock.Instant? {
    one.map { $0.orEarlier(other) } ?? other
}
