import ArgumentParser
import ChanservHost

/// `chanserv worker`: a process of a host's, which starts it for a plugin with `isolation: process`, and to try libraries out.
struct Worker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a plugin for the host that started this process.", shouldDisplay: false)

    @Argument(help: "The plugin's name; the host says the rest.")
    var plugin: String

    @Option(help: "The host's process.")
    var host: Int32

    func run() async throws {
        await WorkerMain.run(host: host)
    }
}
