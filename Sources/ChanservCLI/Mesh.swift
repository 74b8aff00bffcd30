import ArgumentParser
import ChanservHost

/// `chanserv mesh`: who is there, what they offer, and how it can be reached from here.
struct Mesh: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the hosts of a mesh, what they offer, and how they can be reached from here.",
        discussion: """
            Joins the mesh as a client, waits until nothing has changed for a moment, and writes a table to standard \
            output: the mesh as it looks from here. Nodes that cannot be joined are reported on standard error.

            COLUMNS
              HOST        the host's identity, new each time it starts
              SERVICE     a name it offers; '-' for a host that is linked and offers none here, such as a router
              PATH        'direct' over a link to the host itself, or 'via' a router, by its identity; both where \
            there are both, and the direct one is taken then
              ADDRESS     the other end of the links to the host, or to the router in between
              ROUND TRIP  the last one measured on the first of those links

            With --watch the table is written again whenever it has changed (drawn anew on a terminal), until Ctrl-C; \
            nodes are joined again when they come back. With --output json it is one object a line, with the list 'hosts'.

            Exits with 0, or with 69 if nothing could be joined.

            EXAMPLES
              chanserv mesh
              chanserv mesh --join router-1:10000 router-2:10000 --environment staging
              chanserv mesh --watch
              chanserv mesh --output json | jq -r '.hosts[].services[].name' | sort -u
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Nodes to join; may be repeated, and all are joined. (default: 127.0.0.1:5555)", valueName: "host:port"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @Option(help: "Show only the names of this environment, without its suffix. All names by default.")
    var environment: String?

    @Flag(help: "Show every change, until Ctrl-C.")
    var watch = false

    @Option(help: "How to write to standard output: text or json.")
    var output = MeshFormat.text

    @Option(
        help: ArgumentHelp(
            "How long joining, and then waiting for the picture to settle, may take in all, such as 500ms or 1m30s. "
                + "(default: 10s)",
            valueName: "duration"),
        transform: { try ValueGrammar.duration($0) })
    var timeout = Duration.seconds(10)

    func run() async throws {
        let session = MeshSession(
            MeshRequest(
                joins: join.isEmpty ? [HostAddress(host: "127.0.0.1", port: 5555)] : join,
                environment: environment.flatMap { $0.isEmpty ? nil : $0 }, watches: watch, format: output,
                timeout: timeout))
        let outcome = await session.run()
        if outcome != .complete { throw ExitCode(outcome.exitCode) }
    }
}

extension MeshFormat: ExpressibleByArgument {}
