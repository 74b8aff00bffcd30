import Foundation
import TestSupport
import Testing

/// Runs `chanserv router` as a process, with hosts and clients.
@Suite struct RouterCommandTests {
    @Test func `a client reaches a host through the router`() async throws {
        try await TestRouter.routing { router in
            // A node with the server role opens no links to others, but announces its address. The request succeeds
            // through the router or over a direct link.
            try await TestHost.serving(TestHost.samples(joining: router.address, role: "server")) { _ in
                let exit = try await ChanservCommand.run(
                    "post", "echo", "--join", router.address, "--body", "through", "--timeout", "60s")
                #expect(exit.errors == "")
                #expect(exit.text == "[0] through\n")
                #expect(exit.code == 0)
            }
        }
    }

    @Test func `requests reach the remaining host after the other one is killed`() async throws {
        try await TestRouter.routing { router in
            try await TestHost.serving(TestHost.samples(joining: router.address)) { stays in
                try await TestHost.serving(TestHost.samples(joining: router.address)) { goes in
                    let post = ["post", "echo", "--join", router.address, "--body", "x", "--timeout", "60s"]
                    for _ in 0..<4 { #expect(try await ChanservCommand.run(post).text == "[0] x\n") }
                    goes.process.kill(SIGKILL)
                    _ = try await goes.process.exit()
                    for _ in 0..<4 {
                        let exit = try await ChanservCommand.run(post)
                        #expect(exit.text == "[0] x\n", "\(exit.errors)")
                    }
                    _ = stays
                }
            }
        }
    }

    @Test func `the router joins the nodes of --join`() async throws {
        try await TestHost.serving { host in
            try await TestRouter.routing(["--join", host.address]) { router in
                let exit = try await ChanservCommand.run(
                    "post", "echo", "--join", router.address, "--body", "x", "--timeout", "60s")
                #expect(exit.text == "[0] x\n", "\(exit.errors)")
            }
        }
    }

    @Test func `the router has the name of --name on the mesh and in its log`() async throws {
        try await TestRouter.routing(["--name", "router-1"]) { router in
            try await TestHost.serving(TestHost.samples(joining: router.address)) { _ in
                let exit = try await ChanservCommand.run("mesh", "--output", "json", "--join", router.address)
                #expect(exit.text.contains("\"name\":\"router-1\""), "\(exit.text)")
            }
            router.process.kill(SIGTERM)
            let exit = try await router.process.exit()
            #expect(exit.errors.contains("node=router-1"), "\(exit.errors)")
        }
    }

    @Test func `the router ignores SIGHUP and stops on SIGTERM and SIGINT`() async throws {
        for signal in [SIGTERM, SIGINT] {
            try await TestRouter.routing { router in
                router.process.kill(SIGHUP)
                _ = try await router.process.errorLine(with: "ignored SIGHUP: a router has no configuration file")
                router.process.kill(signal)
                let exit = try await router.process.exit()
                #expect(exit.code == 0)
                #expect(exit.errors.contains("info chanserv: stopped\n"))
                #expect(exit.text == "")
            }
        }
    }

    @Test func `the ready line has all addresses`() async throws {
        let process = try ChanservCommand.start(
            "router", "--listen", "127.0.0.1:0", "127.0.0.1:0", "--listen", "127.0.0.1:0")
        defer { process.end() }
        let ready = try await process.errorLine(with: "ready: listening on ")
        #expect(Set(ready.matches(of: #/127\.0\.0\.1:[1-9]\d*/#).map { String($0.output) }).count == 3)
        #expect(ready.contains(#/, routing host=[A-Za-z0-9_-]+$/#))
    }

    @Test func `an address in use ends the command with 69`() async throws {
        try await TestRouter.routing { router in
            let exit = try await ChanservCommand.run("router", "--listen", "127.0.0.1:0", "--listen", router.address)
            #expect(exit.code == 69)
            #expect(exit.errors.contains("critical chanserv: cannot listen on \(router.address): "))
            #expect(
                exit.errors.contains("another process listens there: choose another address under --listen or end it"))
            #expect(!exit.errors.contains("ready:"))
        }
    }

    @Test func `a host with the router role routes too`() async throws {
        try await TestHost.serving("node: {listen: 127.0.0.1:0, role: router}\n") { router in
            try await TestHost.serving(TestHost.samples(joining: router.address)) { _ in
                let exit = try await ChanservCommand.run(
                    "post", "echo", "--join", router.address, "--body", "x", "--timeout", "60s")
                #expect(exit.text == "[0] x\n", "\(exit.errors)")
            }
            router.process.kill(SIGTERM)
            let exit = try await router.process.exit()
            #expect(exit.code == 0)
            #expect(exit.errors.contains(", routing generation="))
        }
    }

    @Test(arguments: [
        ["router"], ["router", "--listen"], ["router", "--listen", "here"], ["router", "127.0.0.1:0"],
        ["router", "--listen", "127.0.0.1:0", "--join", "127.0.0.1:0"],
        ["router", "--listen", "127.0.0.1:0", "--log-level", "loud"],
        ["router", "--listen", "127.0.0.1:0", "--name", "a b"],
    ]) func `a wrong command line is an error that names the help page`(arguments: [String]) async throws {
        let exit = try await ChanservCommand.run(arguments)
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: "))
        #expect(exit.errors.contains("\nsee 'chanserv router"))
        #expect(exit.errors.hasSuffix(" --help'\n"))
    }
}
