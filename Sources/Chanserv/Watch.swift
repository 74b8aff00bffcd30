extension Optional where Wrapped == Duration {
    /// The deadline of something that begins now.
    var deadline: ContinuousClock.Instant? { map { .now + $0 } }
}
