/// Counts of a request in progress.
package struct PostProgress: Sendable, Equatable {
    /// The address for which the client waits until a host offers it and accepts the request; `nil` when it does not.
    var waitsFor: String?
    /// Number of announced sources.
    var announced = 0
    /// Number of sources that ended, with or without a failure.
    var done = 0
    /// Number of sources that ended with a failure.
    var failed = 0
    var frames = 0
    /// Bytes of the frames, without headers.
    var bytes = 0
    /// Whether the answer is complete.
    var isComplete = false

    package init(
        announced: Int = 0, done: Int = 0, failed: Int = 0, frames: Int = 0, bytes: Int = 0, waitsFor: String? = nil,
        isComplete: Bool = false
    ) {
        self.isComplete = isComplete
        self.waitsFor = waitsFor
        self.announced = announced
        self.done = done
        self.failed = failed
        self.frames = frames
        self.bytes = bytes
    }

    /// Number of sources that have not ended.
    var open: Int { announced - done }

    /// Returns the progress line for a terminal of `width` columns.
    ///
    /// - Parameter rate: the rate in bytes per second.
    package func line(rate: Double, width: Int) -> String {
        let failures = failed == 0 ? "" : " (\(failed) failed)"
        let line =
            waitsFor.map { "waiting for a host that offers '\($0.visible)'" }
            ?? (isComplete && announced == 0 ? "0 sources: the answer is empty" : nil)
            ?? "sources: \(open) open, \(done) done\(failures)  frames: \(frames)"
            + "  bytes: \(ByteCount(bytes))  rate: \(ByteCount(Int(rate)))/s"
        // The last column stays free: some terminals wrap as soon as it is written.
        return String(line.prefix(max(0, width - 1)))
    }
}

/// A number of bytes in human-readable form: `512 B`, `1.5 KiB`, `20 MiB`.
package struct ByteCount: CustomStringConvertible {
    private let count: Int

    package init(_ count: Int) { self.count = count }

    package var description: String {
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

/// The average rate over the last two seconds. The window balances noise against delay.
package struct RateMeter: Sendable {

    package init() {
    }
    private static let window = Duration.seconds(2)
    private var samples: [(time: Duration, bytes: Int)] = [(.zero, 0)]

    /// Adds a sample and returns the rate in bytes per second.
    ///
    /// - Parameters:
    ///   - time: the time since the start, not less than at the previous call.
    ///   - bytes: the total number of bytes at that time.
    package mutating func rate(at time: Duration, bytes: Int) -> Double {
        samples.append((time, bytes))
        // One sample older than the window stays, as the start of the measured interval.
        while samples.count > 2, time - samples[1].time >= Self.window { samples.removeFirst() }
        let elapsed = (time - samples[0].time) / .seconds(1)
        return elapsed > 0 ? Double(bytes - samples[0].bytes) / elapsed : 0
    }
}
