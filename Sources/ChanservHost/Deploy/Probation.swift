package import HostConfiguration

/// State machine that judges the new version of a route's plugin while the old version is ready to return.
///
/// Both versions answer requests of the same time: the old one a share of them, the *control*. So what slows down or
/// fails both is not held against the new one. The type has no clock: the current time is an argument.
package struct Probation: Sendable {
    package typealias Instant = ContinuousClock.Instant

    package enum State: Sendable, Hashable {
        /// The probation lasts until this time at least.
        case running(until: Instant)
        /// The time is over, but there were too few requests for a judgement. The probation goes on.
        case held
        /// The judgement was made.
        case ended
    }

    package enum Action: Sendable, Hashable {
        case doNothing
        /// Report that there are too few requests. The probation goes on.
        case hold
        /// The new version is good: give up the old one.
        case settle
        /// Return to the old version, for this reason.
        case rollBack(Reason)
    }

    /// Why the new version is bad.
    package enum Reason: Sendable, Hashable {
        /// Its process ended, or a call into it did not return.
        case instanceFailed(String)
        /// It failed in this number of requests in a row.
        case failedInARow(Int)
        /// It failed in more requests than the old version. The rates are from 0 to 1.
        case failures(rate: Double, before: Double)
        /// It is slower than the old version. The times are medians until the first frame.
        case slow(median: Duration, before: Duration)
        /// An operator decided it.
        case operatorDecision
    }

    /// A share of failures that is allowed in any case. It keeps a single failure of a version that never failed before
    /// from being a reason.
    private static let allowedFailures = 0.01
    /// The number of standard errors by which the new version must be worse. With a smaller number, good versions would
    /// be rolled back by chance, because the judgement is made several times each second.
    private static let standardErrors = 3.0
    /// The same for times. It is larger, because the times of requests that run together are not independent.
    private static let standardErrorsOfTimes = 5.0
    /// Minimum failures for a comparison of failure rates.
    private static let minimumFailures = 5
    /// Times that differ by less are not slower. They would be noise for plugins that answer within microseconds.
    private static let minimumDifference = Duration.milliseconds(1)

    package private(set) var state: State
    private var options: RouteOptions.Deploy
    private let errorLimit: Int?

    /// - Parameters:
    ///   - duration: the minimum time of the probation.
    ///   - options: the limits of the judgement.
    ///   - errorLimit: the number of failures in a row that ends the probation; `nil` for none.
    package init(_ duration: Duration, _ options: RouteOptions.Deploy, errorLimit: Int? = 10, now: Instant) {
        state = .running(until: now + duration)
        self.options = options
        self.errorLimit = errorLimit
    }

    /// Changes the terms. A probation that is held, or whose time is over, is judged by the new terms at the next tick.
    package mutating func reconfigure(until deadline: Instant, _ options: RouteOptions.Deploy) {
        self.options = options
        switch state {
        case .running, .held: state = .running(until: deadline)
        case .ended: break
        }
    }

    /// Judges by the results so far.
    ///
    /// - Parameters:
    ///   - new: the results of the new version.
    ///   - old: the results of the old version since the probation began.
    package mutating func tick(now: Instant, new: RequestTally, old: RequestTally) -> Action {
        let deadline: Instant?
        switch state {
        case .running(let until): deadline = until
        case .held: deadline = nil
        case .ended: return .doNothing
        }
        if let errorLimit, new.mostFailuresInARow >= errorLimit {
            return end(.rollBack(.failedInARow(new.mostFailuresInARow)))
        }
        if let reason = failureReason(new, old) ?? latencyReason(new, old) { return end(.rollBack(reason)) }
        if let deadline, now < deadline { return .doNothing }
        let isEnough = new.decided >= options.requests && (options.control == 0 || old.decided >= options.requests)
        if isEnough, !looksWorse(new, old) { return end(.settle) }
        guard deadline != nil else { return .doNothing }
        state = .held
        return .hold
    }

    /// Records that the instance of the new version failed.
    package mutating func instanceFailed(_ reason: String) -> Action {
        switch state {
        case .running, .held: end(.rollBack(.instanceFailed(reason)))
        case .ended: .doNothing
        }
    }

    private mutating func end(_ action: Action) -> Action {
        state = .ended
        return action
    }

    /// Whether the new version is over a limit, perhaps by chance. It must not pass then; more requests will tell.
    private func looksWorse(_ new: RequestTally, _ old: RequestTally) -> Bool {
        if let ratio = options.failureRatio, new.failed > 0, old.decided > 0 {
            let (rate, before) = (new.failureRate, old.failureRate)
            if rate > ratio * before + Self.allowedFailures { return true }
        }
        guard let ratio = options.latencyRatio, new.latencies.count > 0, old.latencies.count > 0 else { return false }
        return new.latencies.shareExceeding(ratio, times: old.latencies, andBy: Self.minimumDifference) > 0.5
    }

    /// Compares the failure rates.
    private func failureReason(_ new: RequestTally, _ old: RequestTally) -> Reason? {
        guard let ratio = options.failureRatio, new.failed >= Self.minimumFailures, old.decided > 0 else { return nil }
        let count = Double(new.decided)
        let rate = new.failureRate
        // Laplace's rule of succession: without it, a few good requests of the old version would promise that it never
        // fails.
        let before = Double(old.failed + 1) / Double(old.decided + 2)
        let smoothed = Double(new.failed + 1) / (count + 2)
        let variance = smoothed * (1 - smoothed) / count + ratio * ratio * before * (1 - before) / Double(old.decided)
        let excess = rate - ratio * before - Self.allowedFailures
        guard excess > Self.standardErrors * variance.squareRoot() else { return nil }
        return .failures(rate: rate, before: old.failureRate)
    }

    /// Compares the times. Pairs of requests are compared instead of means or medians, so that a mixture of fast and
    /// slow requests does not deceive.
    private func latencyReason(_ new: RequestTally, _ old: RequestTally) -> Reason? {
        let counts = (new.latencies.count, old.latencies.count)
        guard let ratio = options.latencyRatio, min(counts.0, counts.1) >= options.requests,
            let median = new.latencies.median, let before = old.latencies.median
        else { return nil }
        let share = new.latencies.shareExceeding(ratio, times: old.latencies, andBy: Self.minimumDifference)
        // The variance of the statistic for equal distributions.
        let variance = Double(counts.0 + counts.1 + 1) / (12 * Double(counts.0) * Double(counts.1))
        guard share - 0.5 > Self.standardErrorsOfTimes * variance.squareRoot() else { return nil }
        return .slow(median: median, before: before)
    }
}

extension Probation.Reason: CustomStringConvertible {
    package var description: String {
        switch self {
        case .instanceFailed(let reason): "the new version failed: \(reason)"
        case .failedInARow(let count): "the new version failed in \(count) requests in a row (error_mass.limit)"
        case .failures(let rate, let before):
            "the new version failed in \(Self.percent(rate)) of its requests, the old one in \(Self.percent(before))"
        case .slow(let median, let before):
            "the median time until the first frame is \(Self.milliseconds(median)) with the new version and "
                + "\(Self.milliseconds(before)) with the old one"
        case .operatorDecision: "an operator asked for it"
        }
    }

    private static func milliseconds(_ time: Duration) -> String {
        "\((time / .milliseconds(1) * 10).rounded() / 10) ms"
    }

    private static func percent(_ rate: Double) -> String {
        let tenths = Int((rate * 1_000).rounded())
        return tenths.isMultiple(of: 10) ? "\(tenths / 10) %" : "\(tenths / 10).\(tenths % 10) %"
    }
}
