import Logging
import NIOConcurrencyHelpers
import PluginRuntime
import Testing

/// A log that keeps its lines and lets a test wait for them.
package final class RecordingLog: Sendable {
    private struct State {
        var lines: [String] = []
        var waiters: [(text: String, count: Int, event: OneTimeEvent)] = []
    }

    private let state = NIOLockedValueBox(State())

    package init() {}

    package var logger: Logger {
        var logger = Logger(label: "test") { _ in Handler(log: self) }
        logger.logLevel = .debug
        return logger
    }

    package var lines: [String] { state.withLockedValue { $0.lines } }

    package func count(of text: String) -> Int { lines.count { $0.contains(text) } }

    /// Waits until `count` lines contain `text`, at most 50 seconds.
    package func wait(for text: String, count: Int = 1, sourceLocation: SourceLocation = #_sourceLocation) async {
        let event = OneTimeEvent()
        state.withLockedValue { state in
            if state.lines.count(where: { $0.contains(text) }) >= count {
                event.happened()
            } else {
                state.waiters.append((text, count, event))
            }
        }
        let happened = await event.wait(until: .now + .seconds(50))
        #expect(happened, "not logged \(count) times: \(text)", sourceLocation: sourceLocation)
    }

    private func record(_ line: String) {
        state.withLockedValue { state in
            state.lines.append(line)
            for (text, count, event) in state.waiters where line.contains(text) {
                if state.lines.count(where: { $0.contains(text) }) >= count { event.happened() }
            }
        }
    }

    private struct Handler: LogHandler {
        let log: RecordingLog
        var metadata: Logger.Metadata = [:]
        var logLevel: Logger.Level = .debug

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let plugin = metadata["plugin"].map { "[\($0)] " } ?? ""
            log.record("\(event.level) \(plugin)\(event.message)")
        }
    }
}
