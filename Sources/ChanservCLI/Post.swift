import ArgumentParser
import HostConfiguration

/// `chanserv post`: posts one request and prints or saves the sources and frames that it receives.
struct Post: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Posts a request and prints the sources and frames it receives.",
        usage: "chanserv post <vaddr> [-] [<options>]",
        discussion: """
            Prints headers and frames on standard output as they arrive. Failures go to standard error. If standard \
            error is a terminal, it also shows a progress line.

            OUTPUT
              text  '[N] header: …' per source N, then '[N] …'
                    per line of each frame; control characters
                    are escaped
              json  one object per line:
                      {"source":N,"header":…}
                      {"source":N,"frame":…}
                      {"source":N,"end":"ok"}
                      {"source":N,"end":"error","message":…}
                      {"end":"error","message":…}
                    The last form: the whole request failed.
                    Bytes that are not UTF-8 are base64, with
                    the keys header_base64 and frame_base64
              raw   the bytes of the frames in the order of
                    arrival, without separators

            With --save, each source goes to a file instead, and standard output lists the files. If the header of a \
            source is a JSON object with a relative 'path', the file gets that path below the folder; otherwise its \
            name is 'source-N'. A file is named NAME.partial until its source ends. A failed source leaves the \
            .partial file.

            EXIT CODES
              0    the request and every source succeeded
              1    the request or a source failed
              66   the body cannot be read
              69   no node, or no host that offers the address,
                   could be reached in time
              130  interrupted

            EXAMPLES
              chanserv post echo --body hello
              chanserv post files --body '*.md' --save copy
              chanserv post files --body README.md --output raw
              date | chanserv post echo - --output json
            """)

    @Argument(help: ArgumentHelp("The virtual address to post to.", valueName: "vaddr"), transform: utf8Text)
    var vAddr: String

    @Argument(help: ArgumentHelp("Read the body from standard input.", valueName: "-"))
    var standardInput: String?

    @Option(
        help: ArgumentHelp(
            "A node to join: host:port or unix:path. May be repeated; all nodes are joined. (default: 127.0.0.1:5555)",
            valueName: "address"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @OptionGroup var tls: JoinTLSOptions

    @Option(help: ArgumentHelp("The body of the request. (default: empty)", valueName: "text"))
    var body: String?

    @Option(help: ArgumentHelp("Read the body from this file.", valueName: "file"))
    var bodyFile: String?

    @Option(
        help: ArgumentHelp(
            "Requests with the same bucket go to the same host, as long as the set of hosts does not change.",
            valueName: "text"), transform: utf8Text)
    var bucket: String?

    @Option(
        help: ArgumentHelp(
            "Free text about the request, which plugins can read. Go servers do not receive it.", valueName: "text"),
        transform: utf8Text)
    var meta: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time limit from the request to its last source, such as 30s. The server receives it too and ends the request "
                + "then; Go servers do not receive it. It does not limit joining. (default: no limit)",
            valueName: "duration"),
        transform: duration)
    var deadline: Duration?

    @Option(help: ArgumentHelp("The environment of the address.", valueName: "name"), transform: utf8Text)
    var environment = ""

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time limit for joining, for finding the address and for opening each source, such as 500ms or 1m30s. Within "
                + "it, a refused connection is tried again. It does not limit the transfer of frames. (default: 10s)",
            valueName: "duration"),
        transform: timeLimit)
    var timeout = Duration.seconds(10)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time limit for the whole command, from joining to the last byte. The server does not receive it. (default: "
                + "no limit)", valueName: "duration"),
        transform: timeLimit)
    var maxTime: Duration?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Maximum time without a byte of the answer, after a host has accepted the request. (default: no limit)",
            valueName: "duration"),
        transform: timeLimit)
    var idleTimeout: Duration?

    @Option(
        help: ArgumentHelp(
            "Send the request again, up to this many times, if a host is busy, lost or silent before the first source "
                + "arrives. A host may then have worked on it already: use this for requests that may be repeated.",
            valueName: "count"))
    var retry = 0

    @Option(help: ArgumentHelp("The output format: text, json or raw.", valueName: "format"))
    var output = PostFormat.text

    @Option(help: ArgumentHelp("Save each source to a file in this folder.", valueName: "folder"))
    var save: String?

    func validate() throws {
        guard !vAddr.isEmpty else { throw ValidationError("the virtual address is empty") }
        if let standardInput, standardInput != "-" {
            if !join.isEmpty, [vAddr, standardInput].contains(where: { (try? HostAddress(joinable: $0)) != nil }) {
                throw ValidationError("unexpected argument '\(standardInput)': give each node with its own --join")
            }
            throw ValidationError("unexpected argument '\(standardInput)': give the body with --body")
        }
        if [standardInput, body, bodyFile].filter({ $0 != nil }).count > 1 {
            throw ValidationError("'-', --body and --body-file exclude each other: give one of them")
        }
        // The wire has 32 bits of milliseconds (`docs/protocol.md` §6.1).
        if let deadline, deadline <= .zero || deadline > .seconds(49 * 86_400) {
            throw ValidationError("--deadline must be more than 0 and at most 1176h")
        }
        guard (0...1_000).contains(retry) else { throw ValidationError("--retry must be 0 to 1000") }
        if save != nil && output == .raw {
            throw ValidationError("--save and --output raw exclude each other: give one of them")
        }
    }

    func run() async throws {
        let session = PostSession(
            PostRequest(
                vAddr: vAddr,
                joins: try tls.targets(join),
                body: requestBody, bucket: bucket, meta: meta, deadline: deadline, environment: environment,
                timeout: timeout, maximumTime: maxTime, idleTimeout: idleTimeout, retries: retry, format: output,
                saveFolder: save))
        let outcome = await session.run()
        if outcome != .complete { throw ExitCode(outcome.exitCode) }
    }

    private var requestBody: RequestBody {
        if standardInput != nil || bodyFile == "-" { return .standardInput }
        if let bodyFile { return .file(bodyFile) }
        return .text(body ?? "")
    }
}

extension PostFormat: ExpressibleByArgument {}
