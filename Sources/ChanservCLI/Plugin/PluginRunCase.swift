import ArgumentParser
import PluginConformance

/// `chanserv plugin run-case`: runs one case. `chanserv plugin test` starts it as a child process.
struct PluginRunCase: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "run-case", shouldDisplay: false)

    @Argument var name: String
    @OptionGroup var subject: PluginTestArguments
    @Option var memory: Int

    func run() throws {
        CaseProcess.run(name, try subject.order(), memory: memory)
    }
}
