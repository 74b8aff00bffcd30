import ArgumentParser

/// `chanserv bench`: measures a host that it starts itself, or a running one.
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures the throughput, the latency and the cost of a host.",
        discussion: """
            Starts a host with the Load plugin as a second process, on a free port of 127.0.0.1, and stops it at the \
            end. With --join it measures a running host that routes an address to the Load plugin. The client counts \
            and checks all frames; a wrong response is an error.

            Prints a table, or one JSON object with --json. Processor time is the time of one run, of all threads. \
            Peak memory is the maximum since the start of the process. The values of the host are available only if \
            the command started it.

            EXIT CODES
              0    success
              1    a wrong or failed response, or a timeout
              65   no Load plugin, or the host rejected it
              69   no node could be joined, no host offers the
                   address, or the host did not start
              130  interrupted

            EXAMPLES
              chanserv bench connect --seconds 10
              chanserv bench connect --callers 1 --threaded
              chanserv bench flood --verify
              chanserv bench heavy --kind text --compression
              chanserv bench mixed --json | \\
                jq .figures.ratio_p99.median
              chanserv bench idle --streams 100000
              chanserv bench connect --join router-1:10000
            """,
        subcommands: [BenchConnect.self, BenchFlood.self, BenchHeavy.self, BenchMixed.self, BenchIdle.self])
}
