/// State machine that maps the signals of an operator to actions.
package struct SignalMachine: Sendable {
    package enum Signal: Hashable, Sendable {
        /// SIGHUP.
        case hangUp
        /// SIGTERM or SIGINT.
        case terminate
    }

    package enum Action: Hashable, Sendable {
        /// Reload the configuration.
        case reload
        /// Stop accepting requests, drain, and end.
        case stop
        /// End at once, even if requests are open.
        case endNow
        case doNothing
    }

    private var stops = 0

    package init() {}

    package mutating func received(_ signal: Signal) -> Action {
        switch (signal, stops) {
        case (.hangUp, 0): return .reload
        case (.hangUp, _): return .doNothing
        case (.terminate, 0):
            stops = 1
            return .stop
        case (.terminate, 1):
            stops = 2
            return .endNow
        case (.terminate, _): return .doNothing
        }
    }
}
