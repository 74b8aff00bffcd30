public import CChanservPlugin
import ChanservPlugin

/// Ticker: sources that send a frame every so often. The example of a plugin in Swift.
///
/// **Request**: text, up to three words: how many sources, the interval, and how many frames each sends, e.g.
/// `3 100ms 10`. What is left out is as configured; an empty request is fine. An interval is a whole number with `ms`,
/// `s`, `m` or `h`. Anything else is a bad request.
///
/// **Answer**: that many sources, with the headers `ticker 1`, `ticker 2` and so on, each of which sends the frames
/// `tick 1`, `tick 2` and so on, the first after one interval. Where the client is slow, ticks come later and never in a
/// heap.
///
/// **Configuration**:
///
/// | key | type | default | meaning |
/// |---|---|---|---|
/// | `sources` | integer | 1 | how many sources, 0 to 10,000 |
/// | `interval` | duration | 1s | the time from one frame to the next, 1ms to 24h |
/// | `count` | integer | 0 | how many frames each source sends; 0 is without end |
struct Ticker: Plugin {
    static let name = "ticker"
    static let version = "1.0.0"
    /// Frames are a few bytes, and what waits for the clock is a task.
    static let isInline = true

    private let defaults: Ticks

    init(configuration: borrowing Configuration, log: Log) throws {
        let ticks = try configuration.decode(over: Ticks())
        try ticks.check()
        defaults = ticks
    }

    func serve(_ request: Request, to sources: SourceWriter) async throws {
        let ticks = try defaults.changed(by: request.text)
        for number in 0..<ticks.sources {
            let source = Source(header: "ticker \(number + 1)") { frames in
                try await ticks.run { tick in try await frames.write("tick \(tick)") }
            }
            try await sources.add(source)
        }
    }
}

/// The one function the library exports; the compiler checks it against the header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? {
    Ticker.descriptor
}
