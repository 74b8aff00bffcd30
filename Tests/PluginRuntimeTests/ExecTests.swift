import CProcess
import Chanserv
import Foundation
import NIOCore
import PluginRuntime
import TestSupport
import Testing

/// The built Exec plugin in an instance of a host.
@Suite("Exec", .timeLimit(.minutes(2)))
struct ExecTests {
    // MARK: Commands

    @Test func `standard output, standard error and the exit status are separate sources`() async throws {
        try await run(
            "{commands: {both: {run: [/bin/sh, -c, 'echo one; echo two; printf three; echo error >&2; exit 3']}}}"
        ) { exec in
            let answer = try await exec.answer("both")
            #expect(
                answer == [
                    "stdout": ["one\n", "two\n", "three"], "stderr": ["error\n"], "exit": ["{\"exit\":3}"],
                ])
            #expect(try await exec.answer("both\n") == answer)
        }
    }

    @Test func `with the unit chunks the frames are the raw output`() async throws {
        try await run("{unit: chunks, commands: {zero: {run: [/usr/bin/head, -c, '1000000', /dev/zero]}}}") { exec in
            let answer = try await exec.answer("zero")
            #expect(answer["stdout"]?.map(\.utf8.count).reduce(0, +) == 1_000_000)
            #expect(answer["exit"] == ["{\"exit\":0}"])
        }
    }

    @Test func `a line of any length is one frame`() async throws {
        try await run(
            "{commands: {long: {run: [/bin/sh, -c, 'head -c 300000 /dev/zero | tr \"\\\\0\" x; echo; echo end']}}}"
        ) { exec in
            let lines = try #require(try await exec.answer("long")["stdout"])
            #expect(lines.map(\.utf8.count) == [300_001, 4])
        }
    }

    @Test func `arguments reach the program unchanged`() async throws {
        // The program must get these words as its arguments. No shell may interpret them.
        let words = ["$(touch /tmp/never); `id` && rm -rf * | 'x' \"y\" \\n", "", " spaced  out ", "*", "ünï"]
        try await run("{commands: {say: {run: [/usr/bin/printf, '[%s]'], arguments: 5}}}") { exec in
            let answer = try await exec.answer((["say"] + words).joined(separator: "\n"))
            #expect(answer["stdout"]?.joined() == words.map { "[\($0)]" }.joined())
        }
    }

    @Test(
        arguments: [
            ("", notFound), ("nothing", notFound), ("/bin/sh", notFound), ("none\nx", badRequest),
            ("one\na\nb", badRequest), ("one\n--version", badRequest), ("one\n-", badRequest),
            ("chosen\nb", badRequest),
            ("chosen\n", nil), ("chosen\na", nil), ("chosen\n-x", nil), ("one\n\u{0}", badRequest), ("one\na", nil),
            (String(repeating: "x", count: 1_048_577), badRequest),
        ] as [(String, PluginError.Code?)])
    func `only configured commands and arguments are run`(request: String, code: PluginError.Code?) async throws {
        let yaml = """
            commands:
              none: {run: [/bin/true]}
              one: {run: [/bin/true], arguments: 1}
              chosen: {run: [/bin/true], arguments: 1, allowed: [a, -x]}
            """
        try await run(yaml) { exec in
            do {
                let answer = try await exec.answer(request)
                #expect(code == nil && answer["exit"] == ["{\"exit\":0}"])
            } catch let error as PluginError {
                #expect(error.code == code, "\(error)")
            }
        }
    }

    @Test func `the rest of the request is the standard input of a command with stdin`() async throws {
        let yaml = """
            commands:
              sort: {run: [/usr/bin/sort], stdin: true}
              count: {run: [/usr/bin/wc], arguments: 1, allowed: [-c, -l], stdin: true}
              ignore: {run: [/bin/true], stdin: true}
              none: {run: [/bin/cat]}
            """
        try await run(yaml) { exec in
            #expect(try await exec.answer("sort\nb\n\na\n")["stdout"] == ["\n", "a\n", "b\n"])
            #expect(try await exec.answer("sort")["stdout"] == [])
            #expect(try await exec.answer("sort\n")["stdout"] == [])
            #expect(try await exec.answer("count\n-c\n12345\u{0}\n\n")["stdout"] == ["8\n"])
            let large = String(repeating: "line\n", count: 1_000_000)
            #expect(try await exec.answer("count\n-l\n" + large)["stdout"] == ["1000000\n"])
            #expect(try await exec.answer("ignore\n" + large)["exit"] == ["{\"exit\":0}"])
            #expect(try await exec.answer("none")["stdout"] == [])
            for request in ["none\nx", "count\n-x\n1", "count\n-x"] {
                let error = try await #require(throws: PluginError.self) { try await exec.answer(request) }
                #expect(error.code == .badRequest)
            }
        }
    }

    @Test func `the environment and the folder of a command are those of the configuration`() async throws {
        let yaml = """
            commands:
              bare: {run: [/usr/bin/env]}
              some: {run: [/usr/bin/env], environment: [PATH, A=b=c, NOT_THERE], folder: /usr}
              where: {run: [/bin/pwd], folder: /usr/bin}
              root: {run: [/bin/pwd]}
            """
        try await run(yaml) { exec in
            #expect(try await exec.answer("bare")["stdout"] == [])
            let path = try #require(ProcessInfo.processInfo.environment["PATH"])
            #expect(try await exec.answer("some")["stdout"] == ["PATH=\(path)\n", "A=b=c\n"])
            #expect(try await exec.answer("where")["stdout"] == ["/usr/bin\n"])
            #expect(try await exec.answer("root")["stdout"] == ["/\n"])
        }
    }

    @Test func `a command inherits no descriptors and no ignored signals`() async throws {
        // A descriptor without close-on-exec, and an ignored signal.
        let leak = dup(STDERR_FILENO)
        let before = signal(SIGWINCH, SIG_IGN)
        defer {
            close(leak)
            signal(SIGWINCH, before)
        }
        try await run(
            "{commands: {open: {run: [/bin/ls, /proc/self/fd]}, ignored: {run: [/bin/grep, SigIgn, /proc/self/status]}}}"
        ) { exec in
            // Descriptor 3 is the folder that `ls` lists.
            let open = try await exec.answer("open")
            #expect(open["stdout"] == ["0\n", "1\n", "2\n", "3\n"])
            let ignored = try #require(try await exec.answer("ignored")["stdout"]?.first)
            let signals = try #require(UInt64(ignored.dropFirst("SigIgn:\t".count).dropLast(), radix: 16))
            // The mask removes the two signals that the C library keeps for itself.
            #expect(signals & ~0x1_8000_0000 == 0)
        }
    }

    @Test(arguments: [
        ("{}", "'commands' is missing"),
        ("{commands: {}}", "at least one command is required"),
        ("{commands: {a: {run: [/bin/tru]}}}", "commands.a: run: /bin/tru: No such file or directory"),
        ("{commands: {a: {run: [/bin]}}}", "commands.a: run: /bin is not a program"),
        ("{commands: {a: {run: []}}}", "config:1:22: there are only 0 elements (commands.a.run)"),
        ("{commands: {a: {run: [/bin/true], timeuot: 1s}}}", "did you mean 'timeout'? (commands.a.timeuot)"),
        ("{commands: {a: {run: [/bin/true], allowed: [x]}}}", "commands.a: allowed: there are no arguments to allow"),
        ("{commands: {a: {run: [/bin/true], environment: ['=x']}}}", "commands.a: environment: '=x' is neither"),
        ("{commands: {a: {run: [/bin/true], folder: /bin/true}}}", "folder: /bin/true is not a folder"),
        ("{commands: {a: {run: [/bin/true]}}, processes: 0}", "processes: 0 is not between 1 and 1024"),
        ("{commands: {a: {run: [/bin/true]}}, unit: words}", "expected one of lines, chunks"),
    ]) func `an invalid configuration is refused`(yaml: String, message: String) async throws {
        let error = try await #require(throws: PluginError.self) { try await run(yaml) { _ in } }
        #expect(error.code == .badRequest)
        #expect(error.message.contains(message), "\(error)")
    }

    // MARK: Ends of commands

    @Test func `a command is ended at its timeout`() async throws {
        let yaml = """
            grace: 50ms
            commands:
              polite: {run: [/bin/sleep, '1000'], timeout: 50ms}
              stubborn: {run: [/bin/sh, -c, 'trap "" TERM; echo here; while :; do sleep 1000; done'], timeout: 50ms}
            """
        try await run(yaml) { exec in
            #expect(try await exec.answer("polite")["exit"] == ["{\"signal\":15,\"timed_out\":true}"])
            let answer = try await exec.answer("stubborn")
            #expect(answer["exit"] == ["{\"signal\":9,\"timed_out\":true}"])
        }
    }

    @Test func `cancelling a request ends all processes of its group`() async throws {
        try await run(
            "{commands: {family: {run: [/bin/sh, -c, 'sleep 1000 & echo $!; echo $$; wait']}}}"
        ) { exec in
            let call = try await exec.instance.open("family")
            var sources = call.makeAsyncIterator()
            let stdout = try #require(try await sources.next())
            let stderr = try #require(try await sources.next())
            let processes = try await exec.numbers(2, from: stdout).map { try ProcessWatch($0) }
            call.cancel()
            for process in processes { try process.waitForEnd() }
            stdout.cancel()
            stderr.cancel()
        }
    }

    @Test func `a process that a command leaves behind is killed`() async throws {
        try await run("{commands: {leave: {run: [/bin/sh, -c, 'sleep 1000 & echo $!']}}}") { exec in
            let call = try await exec.instance.open("leave")
            var sources = call.makeAsyncIterator()
            let stdout = try #require(try await sources.next())
            // The child holds the pipe open, so the source ends only because the child is killed.
            let frames = try await stdout.drain()
            let left = try #require(frames.first.flatMap { Int32(String(buffer: $0).dropLast()) })
            #expect(try ProcessWatch.isGone(left))
            var last = 0
            while let source = try await sources.next() { last += try await source.drain().count }
            #expect(last == 1)
        }
    }

    @Test func `a process that has left the group does not delay the answer`() async throws {
        try await run("{commands: {leave: {run: [/bin/sh, -c, 'setsid sleep 1000 & echo $!']}}}") { exec in
            let answer = try await exec.answer("leave")
            let left = try #require(answer["stdout"]?.first.flatMap { pid_t($0.dropLast()) })
            #expect(answer["exit"] == ["{\"exit\":0}"])
            kill(left, SIGKILL)
        }
    }

    @Test func `a command that moves to another process group is ended too`() async throws {
        let script = "setpgrp(0, getpgrp(getppid)); $| = 1; print \"$$\\n\"; sleep 100"
        try await run("{commands: {leave: {run: [/usr/bin/perl, -e, '\(script)']}}}") { exec in
            let call = try await exec.instance.open("leave")
            var sources = call.makeAsyncIterator()
            let stdout = try #require(try await sources.next())
            let process = try ProcessWatch(try #require(try await exec.numbers(1, from: stdout).first))
            call.cancel()
            try process.waitForEnd()
            stdout.cancel()
        }
    }

    @Test func `destroying an instance ends its commands`() async throws {
        let exec = try await Exec(
            "{grace: 1h, commands: {stay: {run: [/bin/sh, -c, 'trap \"\" TERM; echo $$; while :; do sleep 1000; done']}}}"
        )
        let call = try await exec.instance.open("stay")
        var sources = call.makeAsyncIterator()
        let stdout = try #require(try await sources.next())
        let process = try ProcessWatch(try await exec.numbers(1, from: stdout)[0])
        let retirement = await exec.instance.retireNow()
        #expect(retirement == .destroyed)
        try process.waitForEnd()
        stdout.cancel()
    }

    @Test func `at most the configured number of commands run at a time`() async throws {
        try await run(
            "{processes: 1, commands: {wait: {run: [/bin/cat, /dev/zero]}, quick: {run: [/bin/true]}}}"
        ) { exec in
            let waiting = try await exec.instance.open("wait")
            var sources = waiting.makeAsyncIterator()
            let stdout = try #require(try await sources.next())
            let error = try await #require(throws: PluginError.self) { try await exec.answer("quick") }
            #expect(error == PluginError(.busy, "the limit of 1 running commands is reached"))
            // Cancelling the source closes the pipe. The command ends with SIGPIPE and makes room.
            stdout.cancel()
            let stderr = try #require(try await sources.next())
            #expect(try await stderr.drain().isEmpty)
            let exit = try #require(try await sources.next())
            #expect(try await exit.drain().map { String(buffer: $0) } == ["{\"signal\":13}"])
            #expect(try await sources.next() == nil)
            #expect(try await exec.answer("quick")["exit"] == ["{\"exit\":0}"])
        }
    }

    @Test func `a slow reader slows the command down`() async throws {
        try await run(
            "{unit: chunks, commands: {flood: {run: [/bin/sh, -c, 'echo $$; exec cat /dev/zero']}}}"
        ) { exec in
            let call = try await exec.instance.open("flood")
            var sources = call.makeAsyncIterator()
            let source = try #require(try await sources.next())
            var read = 0
            for _ in 0..<200 {
                read += try await source.next()?.readableBytes ?? 0
                // Buffers, in this order: the pipe, the plugin, two queues of the SDK, a batch that is being sent, the
                // network, the client.
                let bound = read + 65_536 + 65_536 + 2 * 262_144 + 131_072 + 131_072 + 65_536 + 65_536
                let written = try #require(try exec.written())
                #expect(written <= bound, "\(written) bytes were written when \(read) had been read")
            }
            source.cancel()
        }
    }

    @Test func `an instance leaves no processes and no descriptors behind`() async throws {
        let yaml = """
            grace: 10ms
            commands:
              quick: {run: [/bin/echo, hello]}
              wait: {run: [/bin/sh, -c, 'echo started; exec sleep 1000']}
              missing: {run: [/bin/true], folder: /tmp}
            """
        let before = try descriptors()
        try await run(yaml) { exec in
            for _ in 0..<30 {
                #expect(try await exec.answer("quick")["stdout"] == ["hello\n"])
                let call = try await exec.instance.open("wait")
                var sources = call.makeAsyncIterator()
                let stdout = try #require(try await sources.next())
                _ = try await exec.frames(1, from: stdout)
                stdout.cancel()
            }
        }
        #expect(try children().isEmpty)
        // Cancelled tasks end soon, but the instance does not wait for them.
        let deadline = ContinuousClock.now + .seconds(60)
        while try descriptors() > before, .now < deadline { await Task.yield() }
        #expect(try descriptors() <= before)
    }

    // MARK: Support

    private func run<Result>(_ yaml: String, _ body: (Exec) async throws -> Result) async throws -> Result {
        let exec = try await Exec(yaml)
        let result = try await body(exec)
        let retirement = await exec.instance.retireNow()
        #expect(retirement == .destroyed)
        return result
    }

    private func descriptors() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
    }

    /// The children of this process, including zombies.
    private func children() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").flatMap { thread -> [String] in
            do {
                return try String(contentsOfFile: "/proc/self/task/\(thread)/children", encoding: .utf8)
                    .split(separator: " ").map(String.init)
            } catch CocoaError.fileReadNoSuchFile {
                return []  // the thread has ended
            }
        }
    }
}

private let badRequest = PluginError.Code.badRequest
private let notFound = PluginError.Code.notFound

/// An instance of Exec.
private struct Exec {
    let host: ProbeHost
    let instance: ProbeInstance

    init(_ yaml: String) async throws {
        host = try ProbeHost()
        let library = host.folder.file("libExec.so")
        try FileManager.default.copyItem(atPath: ChanservCommand.plugin("Exec"), toPath: library)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: library)
        instance = try await host.instance(of: library, yaml: yaml)
    }

    /// Posts a request and returns the frames of its sources, by their headers.
    func answer(_ request: String) async throws -> [String: [String]] {
        try await withThrowingTaskGroup(of: (String, [String]).self) { group in
            for try await source in try await instance.open(request) {
                group.addTask {
                    (String(buffer: source.header), try await source.drain().map { String(buffer: $0) })
                }
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
    }

    /// Reads the first `count` frames of a source that continues.
    func frames(_ count: Int, from source: ProbeSource) async throws -> [String] {
        var frames: [String] = []
        while frames.count < count, let frame = try await source.text() { frames.append(frame) }
        return frames
    }

    func numbers(_ count: Int, from source: ProbeSource) async throws -> [pid_t] {
        try await frames(count, from: source).map { try #require(pid_t($0.dropLast())) }
    }

    /// The number of bytes that the only running command has written.
    func written() throws -> Int? {
        for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task") {
            let children = try String(contentsOfFile: "/proc/self/task/\(thread)/children", encoding: .utf8)
            guard let child = children.split(separator: " ").first else { continue }
            let io = try String(contentsOfFile: "/proc/\(child)/io", encoding: .utf8)
            return io.firstMatch(of: #/wchar: (\d+)/#).flatMap { Int($0.1) }
        }
        return nil
    }
}

/// Watches a process that is not a child of this process.
private struct ProcessWatch {
    private let descriptor: Int32

    init(_ process: pid_t) throws {
        descriptor = chanserv_pidfd_open(process)
        try #require(descriptor >= 0, "there is no process \(process)")
    }

    /// Waits for the end of the process, at most one minute.
    func waitForEnd() throws {
        defer { close(descriptor) }
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        try #require(poll(&polled, 1, 60_000) == 1, "it goes on")
    }

    /// Waits at most one minute and returns whether the process has ended. A zombie has ended too.
    static func isGone(_ process: pid_t) throws -> Bool {
        let descriptor = chanserv_pidfd_open(process)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, 60_000) == 1
    }
}
