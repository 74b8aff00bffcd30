public import CChanservPlugin
import ChanservPlugin

/// Ticker: sources that send a frame in regular intervals. The example of a plugin in Swift.
///
/// **Request**: text with up to three words: the number of sources, the interval, and the number of frames of each
/// source, e.g. `3 100ms 10`. The configuration provides omitted values; the request may be empty. An interval is a
/// whole number with `ms`, `s`, `m` or `h`. Any other request is a bad request.
///
/// **Answer**: the sources, with the headers `ticker 1`, `ticker 2` and so on. Each source sends the frames `tick 1`,
/// `tick 2` and so on, the first after one interval. If the client is slow, ticks are delayed; they do not accumulate.
///
/// **Configuration**:
///
/// | key | type | default | meaning |
/// |---|---|---|---|
/// | `sources` | integer | 1 | number of sources, 0 to 10,000 |
/// | `interval` | duration | 1s | time between two frames, 1ms to 24h |
/// | `count` | integer | 0 | number of frames of each source; 0: no limit |
struct Ticker: Plugin {
    static let name = "ticker"
    static let version = "1.0.0"
    /// Frames have a few bytes, and only tasks wait for the clock.
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

/// The only exported function. The compiler checks it against the header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? {
    Ticker.descriptor
}
