internal import HostConfiguration

/// State that decides when a process without reports is considered dead. The caller checks at regular intervals.
///
/// It counts checks without a report, not time. If the host itself pauses (a suspended machine, a debugger), no checks
/// take place, and the reports of that time are read before the next check.
package struct HeartbeatMonitor: Sendable, Hashable {

    package init() {
    }
    /// Interval of a worker's reports: 1 s. With the minimum timeout, the interval between two checks contains a
    /// report.
    static let reportInterval = IsolationOptions.minimumHeartbeatTimeout / missedLimit
    /// Number of consecutive checks without a report after which the process is considered dead.
    package static let missedLimit = 4

    private var reports = 0
    private var silentChecks = 0

    /// Returns the time between two checks.
    static func interval(for timeout: Duration) -> Duration { timeout / missedLimit }

    /// - Parameter reports: total number of reports so far.
    /// - Returns: whether the process is considered dead.
    package mutating func look(reports: Int) -> Bool {
        silentChecks = reports == self.reports ? silentChecks + 1 : 0
        self.reports = reports
        return silentChecks >= Self.missedLimit
    }
}
