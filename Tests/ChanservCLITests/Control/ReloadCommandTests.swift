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
