public import CChanservPlugin
import ChanservPlugin

/// Exec: runs one of the configured commands for each request.
///
/// **Request**: the command's name on the first line. Each further line is one argument, passed unchanged. No shell is
/// involved, so nothing needs quotes and nothing is expanded. A line break at the end is ignored.
///
/// **Response**: the sources `stdout` and `stderr` carry the output of the command. When the command has ended, the
/// source `exit` follows with one frame: `{"exit":0}`, or `{"signal":15}` if a signal ended the command. The frame also
/// has `"timed_out":true` after a timeout. Standard input is empty. A client that reads slowly slows the command down.
/// If the client cancels a source, the command's next write to that pipe fails.
///
/// The plugin ends a command if the client cancels the request or disconnects, at the timeout, and if the host drains.
/// It sends SIGTERM to the command's process group, and SIGKILL after `grace`. When the command itself ends, the plugin
/// kills the rest of the group.
///
/// **Configuration**: see ``Options``, and `docs/configuration.md`.
final class Exec: Plugin {
    static let name = "exec"
    static let version = "1.0.0"

    private let options: Options
    private let processes: Processes
    private let log: Log

    init(configuration: borrowing Configuration, log: Log) throws {
        options = try configuration.decode()
        try options.check()
        processes = try Processes(most: options.processes)
        self.log = log
    }

    func serve(_ request: Request, to sources: SourceWriter) async throws {
        let exit = try await run(Invocation(request.body, options.commands), to: sources)
        try await sources.add(Source(header: "exit") { frames in try await frames.write(exit.json) })
    }

    /// Runs a command to its end. On every path, including cancellation, this function returns only after the command
    /// has ended.
    private func run(_ invocation: Invocation, to sources: SourceWriter) async throws -> Exit {
        let (process, added) = try await start(invocation, sources)
        defer { processes.release(process) }
        let exit = await withTaskCancellationHandler {
            await process.exit()
        } onCancel: {
            process.terminate()
        }
        log.debug("command \(invocation.name), process \(process.id), ended: \(exit.json)")
        try added.get()
        return exit
    }

    /// Starts a command and adds the sources for its output. Only the sources hold the pipes, so a cancelled source
    /// closes its pipe. If a source cannot be added, this function requests termination of the command.
    private func start(
        _ invocation: Invocation, _ sources: SourceWriter
    ) async throws -> (RunningProcess, Result<Void, any Error>) {
        let (process, output, errors) = try processes.start(invocation, grace: options.grace)
        log.debug("command \(invocation.name) started as process \(process.id)")
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

/// Returns the descriptor. This is the only function that the library exports; the compiler checks its signature
/// against the C header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? {
    Exec.descriptor
}
