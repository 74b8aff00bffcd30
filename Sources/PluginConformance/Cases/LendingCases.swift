extension ConformanceCase {
    /// Frames that the plugin lends.
    static let lending = [
        ConformanceCase(
            "lent-frames", "lent frames stay unchanged until their release, even after everything is closed"
        ) { run in
            try compare(run, "with lent frames that are kept") { $0.frames.releases = .afterClose }
        },
        ConformanceCase("lent-early", "the release of a lent frame may come before lend returns") { run in
            try compare(run, "with lent frames that are released at once") { $0.frames.releases = .atOnce }
        },
        ConformanceCase("lent-refused", "a frame whose lend is refused is not lent: it is offered again") { run in
            try compare(run, "with lends that are refused") {
                $0.frames.refusesEveryOtherLend = true
                $0.frames.releases = .afterClose
            }
        },
    ]

    private static func compare(
        _ run: CaseRun, _ what: String, _ change: (inout ExchangeOptions) -> Void
    ) throws(CaseEnd) -> Verdict {
        let plugin = try run.plugin()
        let instance = try run.create(plugin)
        var options = ExchangeOptions()
        change(&options)
        let failures = try run.compare(instance, options, what: what)
        instance.destroy()
        return Verdict.judge(failures: plugin.findings.of([.lent, .sink]) + failures)
    }
}
