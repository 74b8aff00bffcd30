public import CChanservPlugin
import ChanservPlugin

/// Ticker: sources that send one frame per interval. The example of a plugin in Swift.
///
/// **Request**: text of up to three words: the number of sources, the interval, and the number of frames per source,
/// e.g. `3 100ms 10`. A missing word takes its configured value; an empty request is valid. An interval is a whole
/// number with the unit `ms`, `s`, `m` or `h`. The plugin rejects any other request as a bad request.
///
/// **Response**: the requested number of sources, with the headers `ticker 1`, `ticker 2` and so on. Each source sends
/// the frames `tick 1`, `tick 2` and so on, the first after one interval. If the client is slow, ticks are delayed;
/// they do not pile up.
///
/// **Configuration**:
///
/// | key | type | default | meaning |
/// |---|---|---|---|
/// | `sources` | integer | 1 | the number of sources, 0 to 10,000 |
/// | `interval` | duration | 1s | the time between two frames, 1ms to 24h |
/// | `count` | integer | 0 | the number of frames per source; 0: unlimited |
struct Ticker: Plugin {
    static let name = "ticker"
    static let version = "1.0.0"
    /// True: a frame has a few bytes, and a task waits for the clock, so no function blocks the event loop.
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

/// Returns the descriptor. This is the only function that the library exports; the compiler checks its signature
/// against the C header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? {
    Ticker.descriptor
}
