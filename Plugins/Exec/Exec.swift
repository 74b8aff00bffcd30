public import CChanservPlugin
import ChanservPlugin

/// Exec: runs a command for each request. The configuration lists the commands that are allowed.
///
/// **Request**: the name of the command. Each further line is one argument, passed unchanged. There is no shell, so
/// nothing is quoted or expanded. A line break at the end of the request is ignored. If the command has `stdin: true`,
/// the request has exactly as many arguments as the configuration states, and all bytes behind their lines are the
/// standard input.
///
/// **Answer**: the sources `stdout` and `stderr`, whose frames are the output of the command. After its end follows the
/// source `exit` with one frame: `{"exit":0}`, or `{"signal":15}` if a signal ended it. `"timed_out":true` is added if
/// the command exceeded its timeout. Otherwise standard input is empty. A client that reads slowly slows the command
/// down. If the client drops a source, its pipe has no reader.
///
/// A command must end if the client is gone, its timeout has passed or the host drains. Then all processes of its group
/// receive SIGTERM, and SIGKILL after `grace`. When the command has ended, the remaining processes of its group are
/// killed.
///
/// **Configuration**: see ``Options`` and `docs/configuration.md`.
final class Exec: Plugin {
    static let name = "exec"
    static let version = "1.0.0"

    private let options: Options
    private let processes: Processes
    private let log: Log

    init(configuration: borrowing Configuration, log: Log) throws {
        options = try configuration.decode()
        try options.check()
        processes = try Processes(limit: options.processes)
        self.log = log
    }

    func serve(_ request: Request, to sources: SourceWriter) async throws {
        let exit = try await run(Invocation(request.body, options.commands), to: sources)
        try await sources.add(Source(header: "exit") { frames in try await frames.write(exit.json) })
    }

    /// Runs a command and returns after it has ended. If this function ends early, it ends the command first.
    private func run(_ invocation: Invocation, to sources: SourceWriter) async throws -> Exit {
        let (process, added) = try await start(invocation, sources)
        defer { processes.release(process) }
        let exit = await withTaskCancellationHandler {
            await process.exit()
        } onCancel: {
            process.terminate()
        }
        log.debug("\(invocation.name), process \(process.id), ended: \(exit.json)")
        try added.get()
        return exit
    }

    /// Starts a command and adds the sources of its output. Only the sources hold the pipes, so a client that drops one
    /// breaks the pipe. If the sources cannot be added, the command is terminated.
    private func start(
        _ invocation: Invocation, _ sources: SourceWriter
    ) async throws -> (RunningProcess, Result<Void, any Error>) {
        let (process, output, errors) = try processes.start(invocation, grace: options.grace)
        log.debug("\(invocation.name) runs as process \(process.id)")
        do {
            for (name, pipe) in [("stdout", output), ("stderr", errors)] {
                let source = Source(header: name) { [unit = options.unit] frames in
                    try await Copy(from: pipe, of: process, in: unit).run(to: frames)
                }
                try await sources.add(source)
            }
            return (process, .success(()))
        } catch {
            process.terminate()
            return (process, .failure(error))
        }
    }

    func stop() {
        processes.stop()
    }
}

/// The only exported function. The compiler checks it against the header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? {
    Exec.descriptor
}
