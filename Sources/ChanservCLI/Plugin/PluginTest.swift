import ArgumentParser
import ChanservHost

/// `chanserv plugin test`: does a library keep the rules of chanserv_plugin.h?
struct PluginTest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Finds out whether a plugin keeps the rules of chanserv_plugin.h.",
        discussion: """
            Runs some forty cases, each in a process of its own with a limit of time and memory, so that a plugin that \
            crashes, hangs or calls exit fails that case only. Each case is a line of a table on standard output: its \
            outcome, its name and the rule, and below it what was seen where it did not simply pass.

            OUTCOMES
              pass  the rule is kept
              warn  something should be looked at; counts as passed
              FAIL  the rule is broken
              skip  the case does not apply, or could not be run

            A request is needed that the plugin can answer, unless it answers an empty one; several can be given, and \
            one that it takes its time for makes the run longer. docs/plugin-test.md explains each case.

            Exits with 0, with 1 if a case failed, or with 65 if the file is no plugin or the host would not load it.

            EXAMPLES
              chanserv plugin test Plugins/libEcho.so --request hello
              chanserv plugin test Plugins/libFiles.so --config 'root: Plugins' --request '*/*.c'
              chanserv plugin test ./quotes.so --config quotes.yaml --request EUR --request '*' --json
              chanserv plugin test ./quotes.so --only garbage
            """)

    @OptionGroup var subject: PluginSubject

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Run these cases only. All by default.", valueName: "case"))
    var only: [String] = []

    @Flag(help: "Write one JSON object instead of the table.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "How long a case may take before it is ended and fails. (default: 20s)", valueName: "duration"),
        transform: { try ValueGrammar.duration($0) })
    var timeout = CaseProcess.Limits().time

    func validate() throws {
        for name in only where !ConformanceCase.all.contains(where: { $0.name == name }) {
            throw ValidationError(
                "There is no case '\(name)'; the cases are \(ConformanceCase.all.map(\.name).joined(separator: ", ")).")
        }
    }

    func run() async throws {
        let order = try subject.order()
        var limits = CaseProcess.Limits()
        limits.time = timeout
        let cases = only.isEmpty ? ConformanceCase.all : ConformanceCase.all.filter { only.contains($0.name) }
        let results: [ConformanceRun.Result]
        do {
            let run = try ConformanceRun(order, limits: limits, program: OwnProgram.path) { [subject, limits] name in
                ["chanserv", "plugin", "run-case", name, "--memory", "\(limits.memory)"] + subject.arguments
            }
            var before: ConformanceRun.Result?
            results = try await run.run(cases) { result in
                if !json { print(ConformanceText.line(result, after: before), terminator: "") }
                before = result
            }
        } catch let error as PluginLoadError {
            StandardError.write("\(error)")
            throw ExitCode(65)
        }
        print(json ? ConformanceJSON.render(order.file, results) : ConformanceText.total(results), terminator: "")
        if results.contains(where: { $0.verdict.outcome == .fail }) { throw ExitCode(1) }
    }
}

/// What is tested, and with what: the same for the whole run and for the process of one case.
struct PluginSubject: ParsableArguments {
    @Argument(help: ArgumentHelp("The shared library.", valueName: "file"))
    var file: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "What would stand under 'config:' for it: a YAML file, or YAML itself. Nothing by default.",
            valueName: "yaml"))
    var config: String?

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("The body of a request; may be repeated. One that is empty by default.", valueName: "text"))
    var request: [String] = []

    func order() throws -> CaseOrder {
        do {
            return try CaseOrder(file: file, configuration: config, requests: request)
        } catch {
            for problem in error.errors { StandardError.write("\(problem)") }
            throw ExitCode(65)
        }
    }

    /// These again, for another process.
    var arguments: [String] {
        [file] + (config.map { ["--config", $0] } ?? []) + request.flatMap { ["--request", $0] }
    }
}
