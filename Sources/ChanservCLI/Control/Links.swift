import ArgumentParser
import ChanservHost

/// `chanserv links`: lists the links of a running host to other nodes.
struct Links: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the connected clients and nodes of a running host.",
        usage: "chanserv links [<options>]",
        discussion: """
            The list begins with the oldest link and has at most 10,000 entries; a last line counts the others.

            COLUMNS
              PEER        identity of the client, host or router
                          on the mesh, new at each start
              NAME        its 'node.name', if it has one
              ADDRESS     its address
              IDENTITY    its verified name: of its certificate, or
                          the user at a Unix socket
              DIRECTION   accepted: it connected to the host;
                          dialled: the host connected to it
              AGE         time since the connection began
              STREAMS     open streams: requests and sources
              BUFFERED    bytes that it makes the host buffer
              ROUND TRIP  the shortest one

            With --watch, prints the table every second until Ctrl-C; on a terminal it redraws the table in place. \
            With --json, each table is one object on one line; docs/control.md describes it.

            Exit codes: 0 success; 65 no control socket is configured; 69 no host answers.

            EXAMPLES
              chanserv links
              chanserv links --watch
              chanserv links --json | jq '.links[].address'
            """)

    @Flag(help: "Print the table every second, until Ctrl-C.")
    var watch = false

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            guard watch else {
                let report = try await options.ask(.links(every: nil), at: path, as: LinksAnswer.self)
                if options.json {
                    try options.write(report)
                } else {
                    try options.write(text: LinksText.render(report))
                }
                return
            }
            try await options.watch(.links(every: .seconds(1)), at: path, as: LinksAnswer.self) {
                LinksText.render($0)
            }
        }
    }
}
