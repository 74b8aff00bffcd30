import Foundation
import TestSupport
import Testing

/// Tests the notifications of `chanserv serve` and `chanserv router` to a service manager.
@Suite struct NotifyTests {
    enum Kind: CaseIterable { case path, abstract }

    /// Starts a host with a notify socket.
    private func start(
        _ manager: NotifyReceiver, _ folder: String, variables: String = ""
    ) throws -> ChildProcess {
        try ChildProcess(
            "/bin/sh",
            [
                "-c", "\(variables) NOTIFY_SOCKET=\(manager.name) exec \"$0\" serve --config \"$1\"",
                ChanservCommand.buildFolder + "/chanserv", folder + "/chanserv.yaml",
            ])
    }

    @Test(arguments: Kind.allCases)
    func `the service manager receives each state change of a host`(kind: Kind) async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let manager = try NotifyReceiver(
                kind == .path ? folder + "/notify" : "@chanserv-test-\(UUID().uuidString)")
            let process = try start(manager, folder)
            defer { process.end() }
            #expect(try await manager.next() == "READY=1\nSTATUS=serving echo, files, ticker")
            _ = try await process.errorLine(with: "ready")

            // The time of the reload is between the signal and now.
            let before = NotifyReceiver.monotonicMicroseconds()
            process.kill(SIGHUP)
            let reloading = try await manager.next()
            let time = try #require(
                reloading.wholeMatch(of: #/RELOADING=1\nMONOTONIC_USEC=(\d+)/#).flatMap { UInt64($0.1) })
            #expect(time >= before && time <= NotifyReceiver.monotonicMicroseconds())
            #expect(try await manager.next() == "READY=1\nSTATUS=serving echo, files, ticker")

            // A refused reload also ends with READY=1.
            try Data("nonsense: 1\n".utf8).write(to: URL(fileURLWithPath: folder + "/chanserv.yaml"))
            let refused = try await ChanservCommand.run("reload", "--socket", folder + "/c.sock")
            #expect(refused.code == 65)
            #expect(try await manager.next().hasPrefix("RELOADING=1\n"))
            #expect(
                try await manager.next()
                    == "READY=1\nSTATUS=serving echo, files, ticker; the last reload was refused")

            let socket = folder + "/c.sock"
            #expect(try await ChanservCommand.run("drain", "files", "--socket", socket).code == 0)
            let drained = "serving echo, ticker; drained: files; the last reload was refused"
            #expect(try await manager.next() == "STATUS=\(drained)")
            #expect(try await ChanservCommand.run("enable", "files", "--socket", socket).code == 0)
            #expect(try await manager.next() == "STATUS=serving echo, files, ticker; the last reload was refused")

            process.kill(SIGTERM)
            let stopping = try await manager.next()
            #expect(stopping.hasPrefix("STOPPING=1\nSTATUS=stopping: "))
            #expect(try await process.exit().code == 0)
        }
    }

    @Test func `after an upgrade the new process is the service, and the old one sends nothing`() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let manager = try NotifyReceiver(folder + "/notify")
            let process = try start(manager, folder)
            defer { process.end() }
            #expect(try await manager.next() == "READY=1\nSTATUS=serving echo, files, ticker")
            _ = try await process.errorLine(with: "ready")

            let upgrade = try await ChanservCommand.run("upgrade", "--socket", folder + "/c.sock")
            #expect(upgrade.code == 0, "\(upgrade.errors)")
            let message = try await manager.next()
            let pid = try #require(message.wholeMatch(of: #/MAINPID=(\d+)/#).flatMap { pid_t($0.1) })
            defer { kill(pid, SIGKILL) }
            #expect(upgrade.text == "process \(pid) serves now\n")
            #expect(try await manager.next() == "READY=1\nSTATUS=serving echo, files, ticker")
            kill(pid, SIGTERM)
            #expect(try await manager.next().hasPrefix("STOPPING=1\nSTATUS=stopping: "))
            // Both processes have the standard error, so both have ended.
            #expect(try await process.exit().code == 0)

            let router = try ChildProcess(
                "/usr/bin/env",
                [
                    "NOTIFY_SOCKET=\(manager.name)", ChanservCommand.buildFolder + "/chanserv", "router", "--listen",
                    "127.0.0.1:0",
                ])
            defer { router.end() }
            #expect(try await manager.next() == "READY=1\nSTATUS=routing", "the old process has sent a message")
        }
    }

    @Test func `the service manager receives each state change of a router`() async throws {
        try await TestHost.withFolder { folder in
            let manager = try NotifyReceiver(folder + "/notify")
            let process = try ChildProcess(
                "/usr/bin/env",
                [
                    "NOTIFY_SOCKET=\(manager.name)", ChanservCommand.buildFolder + "/chanserv", "router", "--listen",
                    "127.0.0.1:0",
                ])
            defer { process.end() }
            #expect(try await manager.next() == "READY=1\nSTATUS=routing")
            process.kill(SIGHUP)
            #expect(try await manager.next().hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
            #expect(try await manager.next() == "READY=1\nSTATUS=routing")
            process.kill(SIGTERM)
            #expect(try await manager.next().hasPrefix("STOPPING=1\n"))
            #expect(try await process.exit().code == 0)
        }
    }

    @Test func `a host that cannot start sends no notification`() async throws {
        try await TestHost.withFolder("routes: 3\n") { folder in
            let manager = try NotifyReceiver(folder + "/notify")
            let process = try start(manager, folder)
            #expect(try await process.exit().code == 65)
            #expect(manager.waiting() == nil)
        }
    }

    @Test func `the host sends watchdog messages while it runs`() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let manager = try NotifyReceiver(folder + "/notify")
            let process = try start(manager, folder, variables: "WATCHDOG_PID=$$ WATCHDOG_USEC=20000")
            defer { process.end() }
            var keepAlives = 0
            while keepAlives < 10 {
                if try await manager.next() == "WATCHDOG=1" { keepAlives += 1 }
            }
            // A stopped process sends nothing. Messages that are still queued were sent before.
            process.kill(SIGSTOP)
            try await manager.waitUntilStopped(process.pid)
            while manager.waiting() != nil {}
            #expect(manager.waiting() == nil)
            process.kill(SIGCONT)
            while try await manager.next() != "WATCHDOG=1" {}
            process.kill(SIGTERM)
            while try await !manager.next().hasPrefix("STOPPING=1") {}
            #expect(try await process.exit().code == 0)
        }
    }

    @Test func `the host ignores a watchdog for another process`() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let manager = try NotifyReceiver(folder + "/notify")
            let process = try start(manager, folder, variables: "WATCHDOG_PID=1 WATCHDOG_USEC=2000")
            defer { process.end() }
            var messages = [try await manager.next()]
            for _ in 0..<3 {
                #expect(try await ChanservCommand.run("reload", "--socket", folder + "/c.sock").code == 0)
            }
            process.kill(SIGTERM)
            while messages.last?.hasPrefix("STOPPING=1") == false { messages.append(try await manager.next()) }
            #expect(!messages.contains("WATCHDOG=1"))
            #expect(messages.count == 2 + 3 * 2)
        }
    }

    @Test func `an invalid NOTIFY_SOCKET does not prevent the start`() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let process = try ChildProcess(
                "/usr/bin/env",
                [
                    "NOTIFY_SOCKET=nonsense", ChanservCommand.buildFolder + "/chanserv", "serve", "--config",
                    folder + "/chanserv.yaml",
                ])
            defer { process.end() }
            _ = try await process.errorLine(with: "NOTIFY_SOCKET is neither a path nor an abstract name: 'nonsense'")
            _ = try await process.errorLine(with: "ready")
        }
    }

    @Test func `a notification that cannot be sent is logged`() async throws {
        let process = try ChildProcess(
            "/usr/bin/env",
            [
                "NOTIFY_SOCKET=/none/notify", ChanservCommand.buildFolder + "/chanserv", "router", "--listen",
                "127.0.0.1:0",
            ])
        defer { process.end() }
        _ = try await process.errorLine(
            with: """
                cannot send 'READY=1 STATUS=routing' to the service manager at NOTIFY_SOCKET=/none/notify: \
                No such file or directory
                """)
    }

    @Test func `plugins do not see the variables of the service manager`() async throws {
        let source =
            stubFunctions + """
                #include <stdio.h>
                #include <stdlib.h>
                static const char *value(const char *name) { const char *v = getenv(name); return v ? v : "none"; }
                static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
                                              chanserv_instance **instance, chanserv_error *error) {
                    (void)host; (void)config; (void)instance;
                    snprintf(error->message, error->capacity, "sees %s %s %s", value("NOTIFY_SOCKET"),
                             value("WATCHDOG_USEC"), value("WATCHDOG_PID"));
                    return CHANSERV_ERROR_INTERNAL;
                }
                static const chanserv_plugin nosy = {
                    CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), 0, "nosy", "1",
                    create, STUB_AFTER_CREATE,
                };
                CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &nosy; }
                """
        let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins: {nosy: {path: nosy.so}}
            routes: [{vaddr: nosy, plugin: nosy}]
            """
        try await TestHost.withFolder(configuration) { folder in
            try CompiledPlugin.compile(source, to: folder + "/nosy.so")
            let manager = try NotifyReceiver(folder + "/notify")
            let process = try start(manager, folder, variables: "WATCHDOG_PID=$$ WATCHDOG_USEC=1000000")
            let exit = try await process.exit()
            #expect(exit.code == 65)
            #expect(exit.errors.contains("sees none none none"))
        }
    }
}
