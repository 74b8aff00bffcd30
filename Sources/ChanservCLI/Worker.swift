import ArgumentParser
import ChanservHost

/// `chanserv worker`: runs one plugin in a child process of a host.
///
/// The host starts it for a plugin with `isolation: process`, and to test libraries before it loads them.
struct Worker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a plugin for the host that started this process.", shouldDisplay: false)

    @Argument(help: "The plugin's name. The host sends its configuration.")
    var plugin: String

    @Option(help: "The process ID of the host.")
    var host: Int32

    func run() async throws {
        await WorkerMain.run(host: host)
    }
}
