/// When a process that says nothing any more is given up. Pure: whoever has it looks at the right times.
///
/// It counts looks without a report between them, not time: after a pause of the host itself (a suspended machine, a
/// debugger) there has been no look either, and the reports of the meantime are read before the next.
struct HeartbeatWatch: Sendable, Hashable {
    /// How often a worker reports.
    static let reportInterval = Duration.seconds(1)
    /// How many looks in a row may find nothing.
    static let patience = 4
    /// The shortest time-out for which a look's interval has room for a report.
    static let shortestTimeout = reportInterval * patience

    private var reports = 0
    private var silentLooks = 0

    /// How long to wait between two looks.
    static func interval(for timeout: Duration) -> Duration { timeout / patience }

    /// - Parameter reports: how many there were so far.
    /// - Returns: whether the process is to be given up.
    mutating func look(reports: Int) -> Bool {
        silentLooks = reports == self.reports ? silentLooks + 1 : 0
        self.reports = reports
        return silentLooks >= Self.patience
    }
}
