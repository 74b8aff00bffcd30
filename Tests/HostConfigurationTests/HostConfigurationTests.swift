import HostConfiguration
import Testing

@Suite struct HostConfigurationTests {
    /// A configuration that sets almost every option.
    private static let full = """
        node:
          listen: [127.0.0.1:5555, "[::1]:0"]
          join: router-1:10000
          environment: staging.eu
          drain: 1m
        defaults:
          compression: true
          timeouts: {serving: 10m, sourcing: 31s, chan_accept: 32s, master_read: 5s, master_write: 6s, frame_write: 7s}
          error_mass: {limit: 3, pause: 1s, max_pause: 2s}
          drain: 8s
          batch_size: 1MiB
          limits: {requests: 10, concurrent: 100, unaccepted_sources: 20}
        plugins:
          files:
            path: Plugins/libFiles.so
            sha256: 9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08
            threads: 4
            inline: false
            config: {root: /var/log, deep: {a: 1, b: [1, 2]}}
          echo: {path: /opt/libEcho.so}
        routes:
          - vaddr: logs
            plugin: files
            config: {follow: true, deep: {b: [3]}}
            compression: false
            timeouts: {serving: none, frame_write: off, master_read: 1h}
            error_mass: {limit: none}
            drain: 0
            batch_size: 512
            limits: {requests: 11, concurrent: none}
          - {vaddr: echo, plugin: echo}
        """

    @Test func `node, plugins and routes are read with their locations`() throws {
        let configuration = try HostConfiguration.parse(Self.full, file: "c.yaml", folder: "/etc/chanserv")
        #expect(configuration.file == "c.yaml")
        #expect(configuration.folder == "/etc/chanserv")
        #expect(configuration.warnings == [])
        #expect(configuration.node.listen.map(\.address.description) == ["127.0.0.1:5555", "[::1]:0"])
        #expect(configuration.node.join == [JoinOptions(.tcp(host: "router-1", port: 10_000))])
        #expect(configuration.node.environment == "staging.eu")
        #expect(configuration.node.drain == .seconds(60))

        let files = try #require(configuration.plugin(named: "files"))
        #expect(files.path == "/etc/chanserv/Plugins/libFiles.so")
        #expect(files.sha256 == "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
        #expect(files.threads == 4)
        #expect(!files.allowsInline)
        #expect(configuration.plugins[1].allowsInline)
        #expect(files.configuration.json == #"{"deep":{"a":1,"b":[1,2]},"root":"/var/log"}"#)
        #expect(files.location.description == "c.yaml:14:3")
        #expect(files.pathLocation.description == "c.yaml:15:11")
        #expect(configuration.plugins.map(\.name) == ["files", "echo"])
        #expect(configuration.plugins[1].path == "/opt/libEcho.so")
        #expect(configuration.plugins[1].configuration.json == "{}")

        #expect(configuration.routes.map(\.vAddr) == ["logs", "echo"])
        #expect(configuration.routes.map(\.plugin) == ["files", "echo"])
        #expect(configuration.routes[0].location.description == "c.yaml:22:5")
        #expect(configuration.routes[0].vAddrLocation.description == "c.yaml:22:12")
    }

    @Test func `the config of a route is merged over the config of its plugin`() throws {
        let routes = try HostConfiguration.parse(Self.full, file: "c.yaml", folder: "/").routes
        #expect(routes[0].configuration.json == #"{"deep":{"a":1,"b":[3]},"follow":true,"root":"/var/log"}"#)
        #expect(routes[1].configuration.json == "{}")
    }

    @Test func `the options of a route override the defaults`() throws {
        let routes = try HostConfiguration.parse(Self.full, file: "c.yaml", folder: "/").routes
        var defaults = RouteOptions()
        defaults.compression = true
        defaults.timeouts.serving = .seconds(600)
        defaults.timeouts.sourcing = .seconds(31)
        defaults.timeouts.chanAccept = .seconds(32)
        defaults.timeouts.masterRead = .seconds(5)
        defaults.timeouts.masterWrite = .seconds(6)
        defaults.timeouts.frameWrite = .seconds(7)
        defaults.errorMass.limit = 3
        defaults.errorMass.pause = .seconds(1)
        defaults.errorMass.maxPause = .seconds(2)
        defaults.drain = .seconds(8)
        defaults.batchSize = 1 << 20
        defaults.limits.requests = 10
        defaults.limits.concurrent = 100
        defaults.limits.unacceptedSources = 20
        #expect(routes[1].options == defaults)

        var logs = defaults
        logs.compression = false
        logs.timeouts.serving = nil
        logs.timeouts.frameWrite = nil
        logs.timeouts.masterRead = .seconds(3_600)
        logs.errorMass.limit = nil
        logs.drain = .zero
        logs.batchSize = 512
        logs.limits.requests = 11
        logs.limits.concurrent = nil
        #expect(routes[0].options == logs)
    }

    @Test func `every option that is not written has its default`() throws {
        let text = "plugins: {e: {path: e.so}}\nroutes: [{vaddr: e, plugin: e}]\n"
        let configuration = try HostConfiguration.parse(text, file: "c.yaml", folder: "/")
        #expect(configuration.node == HostConfiguration.Node())
        #expect(configuration.node.listen.map(\.address.description) == ["127.0.0.1:5555"])
        #expect(configuration.node.drain == .seconds(30))
        let options = configuration.routes[0].options
        #expect(options == RouteOptions())
        #expect(options.compression == false)
        #expect(options.timeouts.serving == nil)
        #expect(options.timeouts.chanAccept == .seconds(30))
        #expect(options.errorMass.limit == 10)
        #expect(options.errorMass.pause == .seconds(30))
        #expect(options.errorMass.maxPause == .seconds(300))
        #expect(options.drain == .seconds(30))
        #expect(options.limits.concurrent == nil)
        #expect(configuration.plugins[0].path == "/e.so")
        #expect(configuration.plugins[0].sha256 == nil)
        #expect(configuration.plugins[0].threads == 16)
        #expect(configuration.plugins[0].allowsInline)
    }

    @Test func `a section without entries is an empty section`() throws {
        let text = """
            node:
            defaults:
              timeouts:
            plugins:
              e: {path: e.so, config: }
            routes:
              - {vaddr: e, plugin: e, config: }
            """
        let configuration = try HostConfiguration.parse(text, file: "c.yaml", folder: "/")
        #expect(configuration.node == HostConfiguration.Node())
        #expect(configuration.routes[0].options == RouteOptions())
        #expect(configuration.routes[0].configuration.json == "{}")
    }

    @Test func `an unused plugin and a file without routes are warnings`() throws {
        let text = "plugins:\n  a: {path: a.so}\n  b: {path: b.so}\nroutes:\n  - {vaddr: v, plugin: b}\n"
        let unused = try HostConfiguration.parse(text, file: "c.yaml", folder: "/")
        #expect(unused.warnings.map(\.description) == ["c.yaml:2:3: no route uses the plugin 'a'"])
        let empty = try HostConfiguration.parse("node: {}\nroutes: []\n", file: "c.yaml", folder: "/")
        #expect(empty.warnings.map(\.description) == ["c.yaml:2:1: there are no routes: nothing is served"])
    }

    @Test func `plugins and routes are equal by their values and not by their locations`() throws {
        let one = try HostConfiguration.parse(
            "plugins: {e: {path: e.so, config: {a: 1, b: 2}}}\nroutes: [{vaddr: e, plugin: e}]\n", file: "c.yaml",
            folder: "/")
        let same = try HostConfiguration.parse(
            "routes:\n- plugin: e\n  vaddr: e\nplugins:\n  e:\n    config: {b: 0x2, a: +1}\n    path: /e.so\n",
            file: "c.yaml", folder: "/")
        #expect(one.plugins == same.plugins)
        #expect(one.routes == same.routes)
        #expect(one.routes[0].location != same.routes[0].location)
        let other = try HostConfiguration.parse(
            "plugins: {e: {path: e.so, config: {a: 1, b: '2'}}}\nroutes: [{vaddr: e, plugin: e}]\n", file: "c.yaml",
            folder: "/")
        #expect(one.plugins != other.plugins)
        #expect(one.routes != other.routes)
        let notInline = try HostConfiguration.parse(
            "plugins: {e: {path: e.so, inline: false, config: {a: 1, b: 2}}}\nroutes: [{vaddr: e, plugin: e}]\n",
            file: "c.yaml", folder: "/")
        #expect(one.plugins != notInline.plugins)
    }

    @Test func `routes can share values through aliases`() throws {
        let text = """
            plugins:
              a: {path: a.so, config: &c {x: 1}}
            routes:
              - {vaddr: one, plugin: a, config: *c, timeouts: &t {serving: 1s}}
              - {vaddr: two, plugin: a, timeouts: *t}
            """
        let configuration = try HostConfiguration.parse(text, file: "c.yaml", folder: "/")
        #expect(configuration.routes[1].options.timeouts.serving == .seconds(1))
        #expect(configuration.routes[0].configuration == configuration.routes[1].configuration)
    }

    @Test(arguments: [
        ("127.0.0.1:5555", "127.0.0.1", 5555), ("localhost:0", "localhost", 0), ("[::1]:1", "::1", 1),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535), ("[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80),
    ])
    func `an address is printed in the form in which it is parsed`(text: String, host: String, port: Int) throws {
        let address = try HostAddress(text)
        #expect(address == .tcp(host: host, port: port))
        #expect(address.description == text)
    }

    @Test func `the address of a Unix socket is absolute in a file and printed in the form in which it is parsed`()
        throws
    {
        #expect(try HostAddress("unix:/run/a b.sock") == .unix(path: "/run/a b.sock"))
        #expect(try HostAddress("unix:mesh.sock").description == "unix:mesh.sock")
        let configuration = try HostConfiguration.parse(
            "node: {listen: [unix:mesh.sock, unix:/run/a.sock], join: unix:../b.sock}\nroutes: []\n", file: "c.yaml",
            folder: "/etc")
        #expect(
            configuration.node.listen.map(\.address) == [.unix(path: "/etc/mesh.sock"), .unix(path: "/run/a.sock")])
        #expect(configuration.node.join.map(\.address.description) == ["unix:/etc/../b.sock"])
        #expect(configuration.node.join.map(\.address.port) == [nil])
    }
}
