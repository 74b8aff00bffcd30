import ArgumentParser
import Chanserv
import Glibc

/// The `chanserv` command: each subcommand has a file of its own.
@main
struct ChanservCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chanserv",
        abstract: "Turns shared libraries into streaming network services.",
        discussion: """
            EXIT CODES
              0    all is well
              1    'post' or 'bench': the request or one of its sources failed; 'drain': the route was enabled meanwhile;
                   'cancel': no such request is open; 'plugin test': a case failed
              64   the command line is wrong
              65   the configuration, or a plugin it names, is wrong
              69   an address is in use, nobody answers, a limit is reached, a plugin does not start in time, or the like
              70   chanserv itself is at fault
              130  'post', 'mesh' or 'bench' was interrupted
            """,
        version: version,
        subcommands: [
            Serve.self, Post.self, Check.self, Plugin.self, Router.self, Mesh.self, Bench.self, Status.self,
            Requests.self, Cancel.self, Reload.self, Drain.self, Enable.self, Worker.self,
        ])

    static let version = "0.1.0"

    static func main() async {
        // Whoever started this may ignore the ends of children, which is inherited, and then nobody learns how they ended.
        signal(SIGCHLD, SIG_DFL)
        FreedMemory.keep()
        Turns.shorten()
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            exit(withError: error)
        }
    }
}
