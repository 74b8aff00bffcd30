import ArgumentParser
import HostConfiguration

/// `chanserv mesh`: shows the hosts of a mesh, their services, and the paths from this machine to them.
struct Mesh: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the hosts of a mesh, their services and the paths to them.",
        usage: "chanserv mesh [<options>]",
        discussion: """
            Joins the mesh as a client, waits until its view of the mesh is stable, and prints it as a table. Nodes \
            that cannot be joined are reported on standard error.

            COLUMNS
              HOST        identity of the host, new at each
                          start, and its 'node.name', if it has
                          one and a direct link
              SERVICE     a service of the host; '-' if a linked
                          node offers none, such as a router
              PATH        'direct': a link to the host; 'via X':
                          through router X. A dial prefers a
                          direct path
              ADDRESS     peer address of each link on the path
              ROUND TRIP  last round-trip time, measured on the
                          first of these links

            With --watch, prints the table again after each change until Ctrl-C, and joins lost nodes again. On a \
            terminal it redraws the table in place. With --output json, each table is one object on one line; the list \
            'hosts' has the entries.

            Exit codes: 0 success; 69 no node could be joined; 130 interrupted (without --watch).

            EXAMPLES
              chanserv mesh
              chanserv mesh --join router-1:10000 router-2:10000
              chanserv mesh --environment staging --watch
              chanserv mesh --output json | \\
                jq -r '.hosts[].services[].name' | sort -u
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "The nodes to join, one or more: host:port or unix:path. (default: 127.0.0.1:5555)", valueName: "address"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @OptionGroup var tls: JoinTLSOptions

    @Option(
        help: ArgumentHelp(
            "Show only the names in this environment, without its suffix. (default: all names)", valueName: "name"),
        transform: utf8Text)
    var environment: String?

    @Flag(help: "Print the table again after each change, until Ctrl-C.")
    var watch = false

    @Option(help: ArgumentHelp("The output format: text or json.", valueName: "format"))
    var output = MeshFormat.text

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time limit for joining and waiting for a stable view together, such as 500ms or 1m30s. (default: 10s)",
            valueName: "duration"),
        transform: timeLimit)
    var timeout = Duration.seconds(10)

    func run() async throws {
        let session = MeshSession(
            MeshRequest(
                joins: try tls.targets(join),
                environment: environment.flatMap { $0.isEmpty ? nil : $0 }, watches: watch, format: output,
                timeout: timeout))
        let outcome = await session.run()
        if outcome != .complete { throw ExitCode(outcome.exitCode) }
    }
}

extension MeshFormat: ExpressibleByArgument {}
