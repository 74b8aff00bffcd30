import ArgumentParser

/// `chanserv bench`: measures a host, one that it starts itself or anybody's.
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures how fast a host is, and what it costs.",
        discussion: """
            Starts a host as a second process, with the Load plugin on a free port of 127.0.0.1, and ends it \
            afterwards; with --join it measures a host that is there already and routes an address to that plugin. \
            Every frame is counted, and a wrong answer is an error.

            Standard output gets a table, or one object with --json. Processor time is that of a run, of all threads; \
            the peak of memory is that of the process up to then; the host's are known only where it was started here.

            Exits with 0, with 1 if an answer was wrong or failed, with 65 if the host refused its plugin, with 69 if \
            nobody could be joined or nobody offers the address, and with 130 if it was interrupted.

            EXAMPLES
              chanserv bench connect --seconds 10
              chanserv bench connect --callers 1 --threaded
              chanserv bench flood --verify
              chanserv bench heavy --kind text --compression --runs 5
              chanserv bench mixed --json | jq .figures.ratio_p99.median
              chanserv bench idle --streams 100000
              chanserv bench connect --join router-1:10000 --vaddr load
            """,
        subcommands: [BenchConnect.self, BenchFlood.self, BenchHeavy.self, BenchMixed.self, BenchIdle.self])
}
