import ArgumentParser
import ChanservHost

/// `chanserv post`: posts one request and shows, or saves, what comes back.
struct Post: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Posts a request and shows the sources and frames that come back.",
        discussion: """
            Standard output gets what comes, as it comes; failures go to standard error, and so does a progress line \
            where that is a terminal. Exits with 0 only if every source ended well.

            OUTPUT
              text  '[N] header: …' for each source, '[N] …' for each line of each frame; control characters are \
            shown as escapes
              json  an object a line: {"source":N,"header":…}, {"source":N,"frame":…}, {"source":N,"end":"ok"} or \
            {"source":N,"end":"error","message":…}, and {"end":"error","message":…} if the request as a whole failed; \
            bytes that are not UTF-8 are base64 under header_base64 and frame_base64
              raw   the frames' bytes in the order in which they come, nothing between them

            With --save, frames go to files instead and standard output tells which. A source whose header is a JSON \
            object with a relative 'path' gets that path below the folder, any other 'source-N'. A file is named \
            NAME.partial until it is complete, and keeps that name if its source fails.

            EXAMPLES
              chanserv post echo --body hello
              chanserv post files --body 'Sources/**/*.swift' --save copy
              chanserv post files --body 'app.log' --output raw | grep error
              date | chanserv post echo - --output json
            """)

    @Argument(help: ArgumentHelp("The virtual address to post to.", valueName: "vaddr"))
    var vAddr: String

    @Argument(help: ArgumentHelp("'-' takes the body from standard input.", valueName: "-"))
    var standardInput: String?

    @Option(
        help: ArgumentHelp(
            "A node to join; may be repeated, and all are joined. (default: 127.0.0.1:5555)", valueName: "host:port"),
        transform: { try HostAddress(joinable: $0) })
    var join: [HostAddress] = []

    @Option(help: ArgumentHelp("The body of the request. Without any, it is empty.", valueName: "text"))
    var body: String?

    @Option(help: ArgumentHelp("Takes the body from a file.", valueName: "file"))
    var bodyFile: String?

    @Option(
        help: "Requests of the same bucket go to the same host, while the hosts that offer the address stay the same.")
    var bucket: String?

    @Option(
        help: ArgumentHelp(
            "Free text about the request, which plugins can read. Go servers do not get it.", valueName: "text"))
    var meta: String?

    @Option(
        help: ArgumentHelp(
            "How long the request may take in all once it is posted, such as 30s. The server gets it and ends the request then; "
                + "Go servers do not. (default: no limit)",
            valueName: "duration"),
        transform: { try ValueGrammar.duration($0) })
    var deadline: Duration?

    @Option(help: "The environment the address is in.")
    var environment = ""

    @Option(
        help: ArgumentHelp(
            "How long joining, finding the address and opening each source may take, such as 500ms or 1m30s; what "
                + "comes then may take as long as it likes. (default: 10s)",
            valueName: "duration"),
        transform: { try ValueGrammar.duration($0) })
    var timeout = Duration.seconds(10)

    @Option(help: "How to write to standard output: text, json or raw.")
    var output = PostFormat.text

    @Option(help: ArgumentHelp("Saves each source to a file in this folder.", valueName: "folder"))
    var save: String?

    func validate() throws {
        guard !vAddr.isEmpty else { throw ValidationError("the virtual address is empty") }
        if let standardInput, standardInput != "-" {
            throw ValidationError("unexpected argument '\(standardInput)': the body is given with --body")
        }
        if [standardInput, body, bodyFile].filter({ $0 != nil }).count > 1 {
            throw ValidationError("only one of '-', --body and --body-file can be given")
        }
        // 32 bits of milliseconds on the wire (`docs/protocol.md` §6).
        if let deadline, deadline <= .zero || deadline > .seconds(49 * 86_400) {
            throw ValidationError("--deadline is more than 0, at most 1176h")
        }
        if save != nil && output == .raw {
            throw ValidationError("--output raw writes the frames that --save takes: give one of the two")
        }
    }

    func run() async throws {
        let session = PostSession(
            PostRequest(
                vAddr: vAddr,
                joins: join.isEmpty ? [HostAddress(host: "127.0.0.1", port: 5555)] : join,
                body: requestBody, bucket: bucket, meta: meta, deadline: deadline, environment: environment,
                timeout: timeout, format: output, saveFolder: save))
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
