import ArgumentParser
import HostConfiguration
import PluginConformance
import PluginRuntime

/// `chanserv plugin test`: tests whether a library follows the rules of chanserv_plugin.h.
struct PluginTest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Tests whether a plugin follows the rules of chanserv_plugin.h.",
        usage: "chanserv plugin test <file> [<options>]",
        discussion: """
            Runs about 40 cases. Each case runs in its own process with a time limit and a memory limit, so a plugin \
            that crashes, hangs or calls exit fails only that case. The table on standard output has one line per \
            case: the outcome, the name and the rule. Details follow below the line unless the case simply passed.

            OUTCOMES
              pass  the plugin follows the rule
              warn  needs attention; counts as passed
              FAIL  the plugin breaks the rule
              skip  the case does not apply or could not run

            Give at least one request that the plugin can answer, unless it answers an empty request. A request that \
            takes long makes the run longer. docs/plugins.md describes each case.

            Exit codes: 0 all cases passed; 1 a case failed; 65 the file is not a plugin, or the host would not load it.

            EXAMPLES
              chanserv plugin test Plugins/libEcho.so --request hello
              chanserv plugin test Plugins/libFiles.so \\
                --config 'root: Plugins' --request '*/*.c'
              chanserv plugin test ./quotes.so \\
                --config quotes.yaml --request EUR --request '*'
              chanserv plugin test ./quotes.so --only garbage
            """)

    @OptionGroup var subject: PluginTestArguments

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Run only these cases. (default: all)", valueName: "case"))
    var only: [String] = []

    @Flag(help: "Print one JSON object instead of the table.")
    var json = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Time limit for each case. A case that exceeds it fails. (default: 20s)", valueName: "duration"),
        transform: timeLimit)
    var timeout = CaseProcess.Limits().time

    func validate() throws {
        for name in only where !ConformanceCase.all.contains(where: { $0.name == name }) {
            throw ValidationError(
                "there is no case '\(name)'; the cases are \(ConformanceCase.all.map(\.name).joined(separator: ", "))")
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
            var outputFailure: SystemError?
            results = try await run.run(cases) { result in
                do throws(SystemError) {
                    if !json, outputFailure == nil {
                        try StandardOutput.write(ConformanceText.line(result, after: before))
                    }
                } catch {
                    outputFailure = error
                }
                before = result
            }
            if let outputFailure { throw outputFailure }
        } catch let error as PluginLoadError {
            StandardError.report("\(error)")
            throw ExitCode(65)
        }
        try StandardOutput.write(
            json ? ConformanceJSON.render(order.file, results) : ConformanceText.total(results))
        if results.contains(where: { $0.verdict.outcome == .fail }) { throw ExitCode(1) }
    }
}

/// The plugin under test, its configuration and the requests. `plugin test` passes them to the process of each case.
struct PluginTestArguments: ParsableArguments {
    @Argument(help: ArgumentHelp("The shared library.", valueName: "file"))
    var file: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "The plugin's configuration, as under 'config:': a YAML file or YAML text. (default: none)",
            valueName: "yaml"))
    var config: String?

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("The body of a request. May be repeated. (default: one empty request)", valueName: "text"))
    var request: [String] = []

    func order() throws -> ConformanceInput {
        do {
            return try ConformanceInput(file: file, configuration: config, requests: request)
        } catch {
            for problem in error.errors { StandardError.report("\(problem)") }
            throw ExitCode(65)
        }
    }

    /// The command-line arguments that give another process the same values.
    var arguments: [String] {
        [file] + (config.map { ["--config", $0] } ?? []) + request.flatMap { ["--request", $0] }
    }
}
