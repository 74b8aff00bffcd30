import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Listening sockets that a service manager passes (`LISTEN_FDS`).
    @Suite(.serialized, .timeLimit(.minutes(3))) struct SocketActivation {
        /// Listens as systemd does, writes the configuration `chanserv.yaml` of `template.yaml` with its port, and
        /// becomes the host.
        private static let manager = """
            import os, socket, sys
            folder, family, kind, pid = sys.argv[1:5]
            s = socket.socket(getattr(socket, family), getattr(socket, kind))
            s.bind(("127.0.0.1" if family == "AF_INET" else "::1", 0))
            if kind == "SOCK_STREAM": s.listen()
            with open(folder + "/template.yaml") as template, open(folder + "/chanserv.yaml", "w") as out:
                out.write(template.read().replace("PORT", str(s.getsockname()[1])))
            if s.fileno() != 3: os.dup2(s.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="mesh", LISTEN_PID=pid or str(os.getpid()))
            os.execv(sys.argv[5], sys.argv[5:])
            """

        private func start(
            _ listen: String, family: String = "AF_INET", kind: String = "SOCK_STREAM", pid: String = "",
            _ body: (TestFolder, ChildProcess) async throws -> Void
        ) async throws {
            let folder = try TestFolder()
            try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
            try Data(
                Replacements.configuration.replacingOccurrences(of: "127.0.0.1:0", with: listen).utf8
            ).write(to: URL(fileURLWithPath: folder.file("template.yaml")))
            let process = try ChildProcess(
                "/usr/bin/env",
                [
                    "python3", "-c", Self.manager, folder.path, family, kind, pid,
                    "\(ChanservCommand.buildFolder)/chanserv", "serve", "--config", folder.file("chanserv.yaml"),
                ])
            defer { process.end() }
            try await body(folder, process)
        }

        @Test func `a passed socket is used for its address, also after an upgrade`() async throws {
            try await start("127.0.0.1:PORT") { folder, process in
                let ready = try await process.errorLine(with: "ready: listening on")
                let port = try #require(ready.firstMatch(of: #/127\.0\.0\.1:(\d+)/#).flatMap { Int($0.1) })
                let host = ServedHost(folder: folder, process: process, port: port)
                let replacements = Replacements(host)
                try await host.withClient { client in
                    let listing = try await client.frames(
                        "drill", "shell env; for f in /proc/self/fd/*; do readlink $f; done")[0][0].string
                    #expect(!listing.contains("LISTEN_") && !listing.contains("socket:"), "\(listing)")
                }
                try await replacements.upgrade()
                #expect(try await host.versionForNewClient() == 0)
            }
        }

        @Test func `a passed socket at an address that is not configured is an error`() async throws {
            try await start("127.0.0.1:0", family: "AF_INET6") { _, process in
                let exit = try await process.exit()
                #expect(exit.code == 69)
                #expect(
                    exit.errors.contains("the service manager passes a socket at [::1]:")
                        && exit.errors.contains("node.listen"), "\(exit.errors)")
            }
        }

        @Test func `a passed socket that is no listening TCP socket is an error`() async throws {
            try await start("127.0.0.1:PORT", kind: "SOCK_DGRAM") { _, process in
                let exit = try await process.exit()
                #expect(exit.code == 69)
                #expect(
                    exit.errors.contains("LISTEN_FDS: descriptor 3 (mesh) is not a listening TCP socket"),
                    "\(exit.errors)")
            }
        }

        @Test func `sockets for another process are not used`() async throws {
            try await start("127.0.0.1:0", pid: "1") { _, process in
                _ = try await process.errorLine(with: "ready: listening on")
            }
        }
    }
}
