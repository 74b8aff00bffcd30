/// Runs `body`; where it takes longer than `timeout`, calls `expired` once, from another task, and goes on waiting for it:
/// what `expired` does should make it end.
///
/// - Parameter timeout: `nil` is for ever, and costs nothing.
nonisolated(nonsending) func watching<Result>(
    _ timeout: Duration?, _ expired: @escaping @Sendable () -> Void, _ body: () async throws -> Result
) async rethrows -> Result {
    guard let timeout else { return try await body() }
    let alarm = Task {
        do { try await Task.sleep(for: timeout) } catch { return }
        expired()
    }
    defer { alarm.cancel() }
    return try await body()
}

extension Optional where Wrapped == Duration {
    /// The deadline of something that begins now.
    var deadline: ContinuousClock.Instant? { map { .now + $0 } }
}
