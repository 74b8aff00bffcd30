import Foundation
import TestSupport
import Testing

/// Runs `chanserv reload` against a running host.
@Suite struct ReloadCommandTests {
    @Test func `a reload with changes lists them`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            try host.configure(TestHost.controlled + "  - {vaddr: parrot, plugin: echo}\n")
            let exit = try await host.control("reload")
            #expect(exit.code == 0)
            #expect(exit.text == "generation 2: added parrot; 3 untouched\n")
            #expect(exit.errors == "")
            #expect(try await host.post("parrot", "--body", "x").text == "[0] x\n")
        }
    }

    @Test func `a reload without changes reports that nothing changed`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let exit = try await host.control("reload")
            #expect(exit.code == 0)
            #expect(exit.text == "nothing has changed; still serving generation 1\n")
            let report = try await host.controlJSON("reload")
            #expect(report["result"] as? String == "unchanged")
            let status = try await host.controlJSON("status")
            #expect((status["reloads"] as? [String: Int])?["unchanged"] == 2)
        }
    }

    @Test func `a refused reload prints its reasons and exits with 65`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            try host.configure(TestHost.controlled + "  - {vaddr: parrot, plugin: parrott}\n")
            let exit = try await host.control("reload")
            #expect(exit.code == 65)
            #expect(exit.errors.contains("chanserv.yaml:12:29: no plugin has the name 'parrott'"))
            #expect(exit.text.hasPrefix("reload refused; still serving generation 1"))
            let json = try await host.controlJSON("reload")
            #expect(json["result"] as? String == "refused")
            #expect((json["reasons"] as? [String])?.count == 1)
            #expect(try await host.post("echo", "--body", "y").text == "[0] y\n")

            let status = try await host.control("status")
            #expect(status.text.contains("reload refused; still serving generation 1"))
            #expect(status.text.contains("no plugin has the name 'parrott'"))
        }
    }

    @Test func `a reload whose changes all need a restart says that nothing was applied`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            try host.configure(
                TestHost.controlled.replacingOccurrences(of: "listen: 127.0.0.1:0", with: "listen: 127.0.0.1:1"))
            let exit = try await host.control("reload")
            #expect(exit.code == 0)
            #expect(
                exit.text == "nothing was applied: node.listen needs a restart; still serving generation 1\n")
            let json = try await host.controlJSON("reload")
            #expect(json["need_restart"] as? [String] == ["listen"])
        }
    }

    @Test func `a dry run prints what a reload would change and changes nothing`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            let unchanged = try await host.control("reload", "--dry-run")
            #expect(unchanged.code == 0 && unchanged.errors == "")
            #expect(unchanged.text == "a reload would change nothing; still serving generation 1\n")
            let before = try await host.controlJSON("status")
            let other = TestHost.controlled.replacingOccurrences(of: "count: 3", with: "count: 4")
                .replacingOccurrences(of: "node:\n", with: "node:\n  drain: 5s\n")
            try host.configure(other + "  - {vaddr: load, plugin: new}\n  - {vaddr: parrot, plugin: echo}\n")
            let text = try String(contentsOfFile: host.configurationFile, encoding: .utf8)
            try host.configure(text.replacingOccurrences(of: "routes:", with: "  new: {path: libLoad.so}\nroutes:"))
            let changed = try await host.control("reload", "--dry-run")
            #expect(changed.code == 0 && changed.errors == "")
            let applies = #/^a reload would apply: (.*); still serving generation 1\n$/#
            let changes = try #require(changed.text.firstMatch(of: applies), "\(changed.text)").1
            #expect(changes.hasPrefix("changed node.drain; added load, parrot; repointed ticker; "), "\(changes)")
            let after = try await host.controlJSON("status")
            for key in ["retained", "reloads"] {
                #expect(after[key] as? [String: Int] == before[key] as? [String: Int], "\(key)")
            }
            #expect(after["generation"] as? Int == 1 && after["last_reload"] == nil)
            #expect(try await host.post("parrot", "--body", "x", "--timeout", "100ms").code == 69)
            // The reload does what the dry run announced.
            #expect(try await host.control("reload").text == "generation 2: \(changes)\n")
            let json = try await host.controlJSON("reload", "--dry-run")
            #expect(json["dry_run"] as? Bool == true && json["result"] as? String == "unchanged")
            #expect(try await host.controlJSON("reload")["dry_run"] == nil)
        }
    }

    @Test(arguments: [
        // An unknown key of the plugin, which only `create` finds.
        ("interval: 10ms", "intervall: 10ms", "intervall"),
        // A library that the loader refuses.
        ("plugins:\n", "plugins:\n  broken: {path: broken.so}\n", "broken.so"),
        ("plugin: echo}", "plugin: ecco}", "no plugin has the name 'ecco'"),
    ])
    func `a dry run has the reasons and the exit code of the reload`(old: String, new: String, reason: String)
        async throws
    {
        try await TestHost.serving(TestHost.controlled) { host in
            try CompiledPlugin.compile("int unused;", to: host.folder + "/broken.so")
            try host.configure(TestHost.controlled.replacingOccurrences(of: old, with: new))
            let dry = try await host.control("reload", "--dry-run")
            #expect(dry.code == 65)
            #expect(dry.text == "a reload would be refused; still serving generation 1\n")
            let refused = (try await host.controlJSON("status"))["reloads"] as? [String: Int]
            #expect(refused?["refused"] == 0)
            let real = try await host.control("reload")
            #expect(real.code == 65)
            #expect(dry.errors == real.errors)
            #expect(dry.errors.contains(reason), "\(dry.errors)")
        }
    }

    @Test(arguments: [
        ("", "configuration file is empty"),
        ("nod: {control: c.sock}\nroutes: []\n", "chanserv.yaml:1:1: unknown key 'nod'; did you mean 'node'?"),
        ("node: {contrl: c.sock}\nroutes: []\n", "chanserv.yaml:1:8: unknown key 'contrl'; did you mean 'control'?"),
        ("node: {control: c.sock\n", "chanserv.yaml:"),
    ])
    func `a control command reports the errors of the configuration that hide the socket`(
        text: String, message: String
    ) async throws {
        try await TestHost.withFolder(text) { folder in
            for command in [["status"], ["reload"], ["drain", "x"]] {
                let exit = try await ChanservCommand.run(command + ["-c", folder + "/chanserv.yaml"])
                #expect(exit.code == 65)
                #expect(exit.errors.contains(message), "\(exit.errors)")
                #expect(
                    exit.errors.hasSuffix(
                        "chanserv: nothing was asked of the host; give its control socket with --socket\n"))
            }
        }
    }

    @Test func `a host that does not answer is reported after the timeout`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            host.process.kill(SIGSTOP)
            for command in [["status"], ["requests", "--watch"], ["reload"]] {
                let exit = try await ChanservCommand.run(
                    command + ["--timeout", "300ms", "--config", host.configurationFile])
                #expect(exit.code == 69)
                #expect(
                    exit.errors
                        == "chanserv: the host at '\(host.socketPath)' did not answer within 300ms (it may be stopped)\n"
                )
            }
            host.process.kill(SIGCONT)
        }
    }

    @Test func `a changed socket path is a warning`() async throws {
        try await TestHost.serving(TestHost.controlled) { host in
            try host.configure(TestHost.controlled.replacingOccurrences(of: "c.sock", with: "d.sock"))
            let exit = try await ChanservCommand.run("reload", "--socket", host.socketPath)
            #expect(exit.code == 0)
            #expect(exit.errors.contains("warning: "))
            #expect(exit.errors.contains("node.control is now \(host.folder)/d.sock"))
        }
    }

    @Test func `a configuration without a socket is an error with a hint`() async throws {
        try await TestHost.withFolder { folder in
            let exit = try await ChanservCommand.run("reload", "--config", folder + "/chanserv.yaml")
            #expect(exit.code == 65)
            #expect(exit.errors.contains("sets no control socket: add 'control: chanserv.sock' under 'node'"))
        }
    }

    @Test func `without a host the command exits with 69`() async throws {
        try await TestHost.withFolder(TestHost.controlled) { folder in
            let exit = try await ChanservCommand.run("reload", "--config", folder + "/chanserv.yaml")
            #expect(exit.code == 69)
            #expect(exit.errors.contains("no host answers at '\(folder)/c.sock': No such file or directory"))
            #expect(
                exit.errors.hasSuffix(
                    "; if node.control was changed after the start, give the old path with --socket\n"))
            let direct = try await ChanservCommand.run("reload", "--socket", folder + "/c.sock")
            #expect(!direct.errors.contains("if node.control was changed"))
        }
    }

    @Test func `a configuration that is not YAML is reported with its position`() async throws {
        try await TestHost.withFolder("node: [\n") { folder in
            let exit = try await ChanservCommand.run("reload", "--config", folder + "/chanserv.yaml")
            #expect(exit.code == 65)
            #expect(exit.errors.contains("chanserv.yaml:2:1: "))
        }
    }
}
