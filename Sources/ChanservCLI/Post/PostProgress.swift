/// What a request has brought so far.
struct PostProgress: Sendable, Equatable {
    /// Sources announced.
    var announced = 0
    /// Sources that ended, well or not.
    var done = 0
    /// Sources that ended with a failure.
    var failed = 0
    var frames = 0
    /// Bytes of frames, without headers.
    var bytes = 0

    /// Sources still being read.
    var open: Int { announced - done }

    /// One line for a terminal of `width` columns.
    ///
    /// - Parameter rate: bytes a second.
    func line(rate: Double, width: Int) -> String {
        let failures = failed == 0 ? "" : " (\(failed) failed)"
        let line =
            "sources: \(open) open, \(done) done\(failures)  frames: \(frames)"
            + "  bytes: \(ByteCount(bytes))  rate: \(ByteCount(Int(rate)))/s"
        // The last column stays free: some terminals wrap as soon as it is written.
        return String(line.prefix(max(0, width - 1)))
    }
}

/// A number of bytes for people: `512 B`, `1.5 KiB`, `20 MiB`.
struct ByteCount: CustomStringConvertible {
    private let count: Int

    init(_ count: Int) { self.count = count }

    var description: String {
        guard count >= 1024 else { return "\(count) B" }
        var value = Double(count)
        var unit = ""
        for next in ["KiB", "MiB", "GiB", "TiB"] where value >= 1023.95 || unit.isEmpty {
            value /= 1024
            unit = next
        }
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 || tenths >= 1000
            ? "\((tenths + 5) / 10) \(unit)" : "\(tenths / 10).\(tenths % 10) \(unit)"
    }
}

/// The rate over the last two seconds, so that it neither jumps nor lags.
struct RateMeter: Sendable {
    private static let window = Duration.seconds(2)
    private var samples: [(time: Duration, bytes: Int)] = [(.zero, 0)]

    /// - Parameters:
    ///   - time: since the start, not less than at the last call.
    ///   - bytes: in all, by then.
    /// - Returns: bytes a second.
    mutating func rate(at time: Duration, bytes: Int) -> Double {
        samples.append((time, bytes))
        // One sample older than the window is kept: it is what the newest is measured against.
        while samples.count > 2, time - samples[1].time >= Self.window { samples.removeFirst() }
        let elapsed = (time - samples[0].time) / .seconds(1)
        return elapsed > 0 ? Double(bytes - samples[0].bytes) / elapsed : 0
    }
}
