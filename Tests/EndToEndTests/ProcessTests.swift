import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// What the host's process inherits from its parent, and what the programs that plugins start inherit from it.
    @Suite(.serialized, .timeLimit(.minutes(3))) struct Processes {
        @Test(arguments: Isolation.allCases)
        func `a program that a plugin starts inherits only the standard descriptors`(isolation: Isolation) async throws
        {
            try await ServedHost.serving(isolation.applied(to: ServedHost.drill)) { host in
                try await host.withClient { client in
                    // Another link, and the socket of `chanserv status`, must stay in the host too.
                    let other = try await host.connect()
                    // `ls` opens the folder itself.
                    let listing = try await client.frames(
                        "drill", "shell for f in /proc/self/fd/*; do readlink $f; done | grep -vE '^/proc/|^pipe:'")
                    let names = Set(listing[0][0].string.split(separator: "\n").map(String.init))
                    #expect(names.isSubset(of: ["/dev/null"]), "\(names)")
                    await other.close()
                }
            }
        }

        @Test func `a program of a plugin that outlives the host does not keep its address`() async throws {
            let (port, pid) = try await ServedHost.serving { host in
                let pid = try await host.withClient { client in
                    try await client.frames(
                        "drill", "shell sleep 60 >/dev/null 2>&1 </dev/null & echo $!")[0][0].string
                }
                host.process.kill(SIGKILL)
                _ = try await host.process.exit()
                return (host.port, pid)
            }
            defer { kill(pid_t(pid.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0, SIGKILL) }
            let again = ServedHost.drill.replacingOccurrences(of: ":0}", with: ":\(port)}")
            try await ServedHost.serving(again) { host in
                try await host.withClient { client in
                    let answer = try await client.frames("drill", "count 1 1")
                    #expect(answer.count == 1)
                }
            }
        }

        @Test func `a host whose standard descriptors are closed keeps their numbers free`() async throws {
            try await ServedHost.serving(
                ServedHost.drill.replacingOccurrences(of: ":0}", with: ":0, control: c.sock}")
            ) { host in
                let folder = host.folder
                host.process.kill(SIGTERM)
                _ = try await host.process.exit()
                // The port of the first host is free, and a host without a log cannot report the port that it chose.
                try host.configure(
                    try String(contentsOfFile: host.configurationFile, encoding: .utf8)
                        .replacingOccurrences(of: "127.0.0.1:0", with: host.address))
                let second = try ChildProcess(
                    "/bin/sh",
                    [
                        "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-", "\(ChanservCommand.buildFolder)/chanserv", "serve",
                        "--config", host.configurationFile,
                    ])
                defer { second.end() }
                let deadline = ContinuousClock.now + .seconds(60)
                var post = 1 as Int32
                while post != 0, .now < deadline {
                    post = try await ChanservCommand.run(
                        "post", "--join", host.address, "drill", "--body", "count 1 4"
                    ).code
                }
                #expect(post == 0)
                let targets = try (0...2).map {
                    try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(second.pid)/fd/\($0)")
                }
                #expect(targets == ["/dev/null", "/dev/null", "/dev/null"])
                withExtendedLifetime(folder) {}
            }
        }

        @Test func `a command whose standard output is closed fails`() async throws {
            try await ServedHost.serving { host in
                let exit = try await ChildProcess(
                    "/bin/sh",
                    [
                        "-c", "exec \"$0\" \"$@\" >&-", "\(ChanservCommand.buildFolder)/chanserv", "post", "--join",
                        host.address, "drill", "--body", "count 1 4",
                    ]
                ).exit()
                #expect(exit.code == 1)
                #expect(exit.errors.contains("cannot write standard output"))
            }
        }

        @Test func `standard input and output in non-blocking mode are read and written completely`() async throws {
            try await ServedHost.serving { host in
                // The parent shares the pipes and sets them to non-blocking mode. It writes and reads slowly.
                let script = """
                    import os, subprocess, sys, threading, time
                    body = b"make append noise 3000000\\n"
                    r, w = os.pipe(); os.set_blocking(r, False)
                    o, p = os.pipe(); os.set_blocking(p, False)
                    child = subprocess.Popen(sys.argv[1:], stdin=r, stdout=p)
                    os.close(r); os.close(p)
                    def feed():
                        for byte in body: os.write(w, bytes([byte])); time.sleep(0.002)
                        os.close(w)
                    threading.Thread(target=feed).start()
                    size = 0
                    while True:
                        part = os.read(o, 65536)
                        if not part: break
                        size += len(part); time.sleep(0.001)
                    print(size, child.wait())
                    """
                let exit = try await ChildProcess(
                    "/usr/bin/env",
                    [
                        "python3", "-c", script, "\(ChanservCommand.buildFolder)/chanserv", "post", "--join",
                        host.address, "drill", "-", "--output", "raw",
                    ]
                ).exit()
                #expect(exit.text == "3000000 0\n", "\(exit.errors)")
            }
        }

        @Test func `a host at its limit of open files warns once, waits, and accepts links again`() async throws {
            try await ServedHost.serving { host in
                let figures = ProcessFigures(host.process.pid)
                func limit(to count: Int) async throws {
                    let exit = try await ChildProcess(
                        "/usr/bin/env", ["prlimit", "--pid", "\(host.process.pid)", "--nofile=\(count):4096"]
                    ).exit()
                    try #require(exit.code == 0, "\(exit.errors)")
                }
                try await limit(to: 4_096)
                let first = try await host.connect()
                try await limit(to: try figures.descriptors)
                let attempts = try (0..<3).map { _ in
                    try ChanservCommand.start(
                        "post", "--join", host.address, "drill", "--body", "count 1 4", "--timeout", "60s")
                }
                let warning = try await host.process.errorLine(with: "cannot accept connections")
                #expect(warning.contains("Too many open files: the limit is") && warning.contains("LimitNOFILE="))
                // The clients wait meanwhile, and open links work.
                #expect(try await first.frames("drill", "count 1 4")[0].map(\.string) == ["0000 0"])
                try await limit(to: 4_096)
                _ = try await host.process.errorLine(with: "accepting connections again")
                for attempt in attempts { #expect(try await attempt.exit().code == 0) }
                #expect(host.process.errorsSoFar.components(separatedBy: "cannot accept").count == 2)
                await first.close()
            }
        }

        /// The reason why no process namespaces can be made here; `nil` if they can.
        private static func obstacle() async -> String? {
            do {
                let exit = try await ChildProcess(
                    "/usr/bin/unshare", Self.container + ["/bin/true"]
                ).exit()
                return exit.code == 0 ? nil : "exit code \(exit.code): \(exit.errors)"
            } catch {
                return "\(error)"
            }
        }

        private static let container = [
            "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        ]

        @Test(
            .enabled("process namespaces can be made") {
                guard let obstacle = await obstacle() else { return true }
                print("skipped, because no process namespaces can be made here: \(obstacle)")
                return false
            })
        func `a host that is the init process of a container reaps orphans and stops on SIGTERM`() async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try Data((ServedHost.drill + "\n").utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
            // `unshare` ignores SIGTERM while it waits, so a shell in the outer namespace is not enough: the test finds
            // the init process by its parent.
            let unshare = try ChildProcess(
                "/usr/bin/unshare",
                Self.container + [
                    "\(ChanservCommand.buildFolder)/chanserv", "serve", "--config", folder.file("chanserv.yaml"),
                ])
            defer { unshare.end() }
            let ready = try await unshare.errorLine(with: "ready: listening on")
            let port = try #require(ready.firstMatch(of: #/127\.0\.0\.1:(\d+)/#).flatMap { Int($0.1) })
            let client = try await TestClient(port: port)
            let states = try await client.frames(
                "drill", "shell (sleep 0 &) >/dev/null; sleep 1; cat /proc/[0-9]*/stat | cut -d' ' -f2,3")[0][0].string
            #expect(states.contains("(chanserv) S"), "\(states)")
            #expect(!states.contains(") Z"), "\(states)")
            await client.close()
            let children = try String(
                contentsOfFile: "/proc/\(unshare.pid)/task/\(unshare.pid)/children", encoding: .utf8)
            let initProcess = try #require(pid_t(children.split(separator: " ")[0]))
            // The container would end with the process that is replaced.
            kill(initProcess, SIGUSR2)
            _ = try await unshare.errorLine(with: "upgrade failed: this host is the main program of a container")
            kill(initProcess, SIGTERM)
            let exit = try await unshare.exit()
            #expect(exit.code == 0)
            #expect(exit.errors.split(separator: "\n").last?.hasSuffix("stopped") == true)
        }
    }
}
