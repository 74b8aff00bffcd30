public import CChanservPlugin
import ChanservPlugin

/// Exec: runs a command for each request, one of those that the configuration allows.
///
/// **Request**: the command's name; each further line is an argument, taken as it is. There is no shell, and so nothing
/// to quote or to expand. A line break at the end is not part of the last line.
///
/// **Answer**: the sources `stdout` and `stderr`, whose frames are what the command writes, and when it has ended `exit`,
/// with one frame: `{"exit":0}`, or `{"signal":15}` where a signal ended it; with `"timed_out":true` where its time was
/// over. Standard input is empty. A client that reads slowly slows the command down; a source that the client does not
/// want is a pipe without a reader.
///
/// A command that is to end, because the client has gone, its time is over or the host drains, gets SIGTERM with all
/// processes of its group, and SIGKILL after `grace`. What is left of the group when the command itself ends is killed.
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

    /// Runs a command to its end. Whatever ends this function, it ends the command, and not before that has ended.
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

    /// Starts a command and adds the sources for what it writes. They alone hold its pipes, so that a client that drops
    /// one breaks it. Where they cannot be added the command is to end.
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

/// The one function the library exports; the compiler checks it against the header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? {
    Exec.descriptor
}
