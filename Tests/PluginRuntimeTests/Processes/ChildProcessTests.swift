import Glibc
import PluginRuntime
import Testing

/// Child processes that are watched through a pidfd.
@Suite(.timeLimit(.minutes(1))) struct ChildProcessTests {
    private func shell(_ script: String, _ more: (inout ChildProcess.Program) -> Void = { _ in }) async throws
        -> ChildProcess
    {
        var program = ChildProcess.Program("/bin/sh", ["sh", "-c", script])
        more(&program)
        return try await ChildProcess.start(program)
    }

    @Test func `the exit code or signal of a process is reported`() async throws {
        #expect(try await shell("exit 0").waitForExit() == .exited(0))
        #expect(try await shell("exit 3").waitForExit() == .exited(3))
        #expect(try await shell("kill -SEGV $$").waitForExit() == .signalled(SIGSEGV))
        #expect(ChildExit.signalled(SIGSEGV).description.contains("SIGSEGV"))
        #expect(ChildExit.exited(3).description == "exited with code 3")
    }

    /// With SIGCHLD ignored, the system reaps children itself. A library that waits for any child has the same effect.
    @Test func `a process that was reaped elsewhere has ended in an unknown way`() async throws {
        let before = signal(SIGCHLD, SIG_IGN)
        defer { signal(SIGCHLD, before) }
        // The process runs until its pidfd is open, because a reaped process cannot be opened.
        let input = try Pipe()
        let child = try await shell("read line; exit 3") { $0.input = input.reader }
        close(input.reader)
        close(input.writer)
        #expect(await child.waitForExit(until: .now + .seconds(30)) == .unknown)
        #expect(await child.kill() == .unknown)
        #expect(ChildExit.unknown.description == "ended")
    }

    @Test func `starting a program that does not exist throws`() async {
        await #expect(throws: ProcessError.self) {
            _ = try await ChildProcess.start(ChildProcess.Program("/nowhere/at/all", ["all"]))
        }
    }

    @Test func `killing a process also ends the processes of its group`() async throws {
        let ends = try Pipe()
        let child = try await shell("trap '' TERM; sleep 1000 & wait") { $0.output = ends.writer }
        close(ends.writer)
        #expect(await child.waitForExit(until: .now) == nil)
        #expect(await child.kill() == .signalled(SIGKILL))
        // The `sleep` process holds the pipe too. The end of file shows that it ended with the group.
        #expect(ends.readAll() == "")
        child.signal(SIGTERM)
        #expect(await child.waitForExit(until: .now) == .signalled(SIGKILL))
    }

    @Test func `a process has exactly the descriptors that it is given`() async throws {
        let ends = try Pipe()
        // A descriptor of this process without close-on-exec. The child must not inherit it.
        let leak = dup(ends.reader)
        defer { close(leak) }
        let child = try await shell("echo third >&3; echo fourth >&4; ls /proc/self/fd | tr '\\n' ' '") {
            $0.output = ends.writer
            $0.errors = ends.writer
            $0.descriptors = [ends.writer, ends.writer]
        }
        close(ends.writer)
        let lines = ends.readAll().split(separator: "\n").map(String.init)
        #expect(await child.waitForExit().isSuccess)
        // Descriptor 5 is the folder that `ls` reads.
        #expect(lines == ["third", "fourth", "0 1 2 3 4 5 "])
    }

    @Test func `a process has exactly the environment that it is given`() async throws {
        let ends = try Pipe()
        let child = try await shell("/usr/bin/env | grep -v '^PWD=\\|^_=\\|^SHLVL='") {
            $0.output = ends.writer
            $0.environment = ["A=1", "B=2"]
        }
        close(ends.writer)
        #expect(ends.readAll() == "A=1\nB=2\n")
        _ = await child.waitForExit()
    }

    private struct Pipe {
        let reader: Int32
        let writer: Int32

        init() throws {
            var ends: [Int32] = [0, 0]
            try #require(pipe(&ends) == 0)
            (reader, writer) = (ends[0], ends[1])
            // Close-on-exec is not needed: a child gets only the descriptors that it is given.
        }

        /// Reads until the last writer is closed, then closes the reader.
        func readAll() -> String {
            defer { close(reader) }
            var all: [UInt8] = []
            var part = [UInt8](repeating: 0, count: 4_096)
            while case let count = read(reader, &part, part.count), count > 0 { all += part[..<count] }
            return String(decoding: all, as: UTF8.self)
        }
    }
}
