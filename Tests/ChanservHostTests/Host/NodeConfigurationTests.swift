import AstraNet
import HostConfiguration
import Testing

/// The options under `node`, except the addresses.
@Suite struct NodeConfigurationTests {
    private func node(_ text: String) throws -> HostConfiguration.Node {
        try HostConfiguration.parse("node: \(text)\nroutes: []\n", file: "c.yaml", folder: "/").node
    }

    @Test(arguments: HostConfiguration.Node.Role.allCases)
    func `each role becomes the role of the node`(role: HostConfiguration.Node.Role) throws {
        #expect(NodeConfiguration(try node("{role: \(role.rawValue)}")).role.rawValue == role.rawValue)
    }

    @Test func `an empty node section has the defaults of the library`() throws {
        let (ours, library) = (NodeConfiguration(try node("{}")), NodeConfiguration())
        #expect(ours.role == library.role)
        #expect(ours.environment == library.environment)
        #expect(ours.maximumLinks == library.maximumLinks)
        #expect(ours.maximumStreamsPerLink == library.maximumStreamsPerLink)
        #expect(ours.maximumHalfOpenPerLink == library.maximumHalfOpenPerLink)
        #expect(ours.maximumServicesPerLink == library.maximumServicesPerLink)
        #expect(ours.maximumBufferedPerLink == library.maximumBufferedPerLink)
        #expect(ours.maximumBuffered == library.maximumBuffered)
    }

    @Test func `the name becomes the name of the node and must be printable`() throws {
        #expect(NodeConfiguration(try node("{}")).name == nil)
        #expect(NodeConfiguration(try node("{name: host-7.eu_1}")).name == "host-7.eu_1")
        for name in ["\"\"", "a b", "é", String(repeating: "x", count: 64)] {
            let error = #expect(throws: ConfigurationErrors.self, "\(name)") { try node("{name: \(name)}") }
            #expect(error?.description.contains("is not a name of a node: use 1 to 63 letters") == true)
        }
    }

    @Test func `the access log is off, on or a file`() throws {
        func access(_ text: String) throws -> HostConfiguration.AccessLog {
            try HostConfiguration.parse("\(text)\nroutes: []\n", file: "c.yaml", folder: "/etc/c").log.access
        }
        #expect(try access("") == .off && access("log: {}") == .off && access("log: {access: false}") == .off)
        #expect(try access("log: {access: true}") == .log)
        #expect(try access("log: {access: a.log}") == .file("/etc/c/a.log"))
        let error = #expect(throws: ConfigurationErrors.self) { try access("log: {acces: true}") }
        #expect(error?.description.contains("unknown key 'acces'; did you mean 'access'?") == true)
    }

    @Test func `limits become the limits of the node`() throws {
        let configuration = NodeConfiguration(
            try node("{limits: {links: 1, streams: 2, half_open: 3, services: 4, buffer: 5MiB, total_buffer: 6GiB}}"))
        #expect(configuration.maximumLinks == 1)
        #expect(configuration.maximumStreamsPerLink == 2)
        #expect(configuration.maximumHalfOpenPerLink == 3)
        #expect(configuration.maximumServicesPerLink == 4)
        #expect(configuration.maximumBufferedPerLink == 5 << 20)
        #expect(configuration.maximumBuffered == 6 << 30)
    }

    @Test func `a total_buffer below the default buffer also limits each link`() throws {
        let limits = try node("{limits: {total_buffer: 100MiB}}").limits
        #expect(limits.totalBuffer == 100 << 20)
        #expect(limits.buffer == 100 << 20)
    }

    @Test func `missing routes are a warning for a client and not for a router`() throws {
        func warnings(_ role: String) throws -> [String] {
            try HostConfiguration.parse("node: {role: \(role)}\nroutes: []\n", file: "c.yaml", folder: "/")
                .warnings.map(\.description)
        }
        #expect(try warnings("router") == [])
        #expect(try warnings("client") == ["c.yaml:2:1: there are no routes: nothing is served"])
    }

    @Test func `the control path is relative to the file and has at most 107 bytes`() throws {
        func control(_ path: String) throws -> String? {
            try HostConfiguration.parse("node: {control: \(path)}\nroutes: []\n", file: "c.yaml", folder: "/etc/c").node
                .control
        }
        #expect(try node("{}").control == nil)
        #expect(try control("c.sock") == "/etc/c/c.sock")
        #expect(try control("/run/c.sock") == "/run/c.sock")
        // A socket address has room for 107 bytes.
        let longest = "/" + String(repeating: "x", count: 106)
        #expect(try control(longest) == longest)
        #expect { try control(longest + "x") } throws: {
            ($0 as? ConfigurationErrors)?.description.contains("has 108 bytes, but at most 107 are allowed") == true
        }
    }

    @Test func `changes that need a restart are reported`() throws {
        let running = try node("{limits: {links: 10}}")
        let wanted = try node("{role: router, limits: {links: 11, buffer: 1MiB}}")
        #expect(
            wanted.changesThatNeedARestart(since: running).map(\.warning) == [
                "node.role is now router in the file, but changing it needs a restart: it stays peer",
                "node.limits.links is now 11 in the file, but changing it needs a restart: it stays 10",
                "node.limits.buffer is now 1MiB in the file, but changing it needs a restart: it stays 256MiB",
            ])
        #expect(
            wanted.changesThatNeedARestart(since: running).map(\.key) == ["role", "limits.links", "limits.buffer"])
        #expect(running.changesThatNeedARestart(since: running).isEmpty)
    }
}
