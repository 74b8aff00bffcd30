import HostConfiguration
import Testing

/// The descriptions of the errors with which `text` is refused.
private func errors(_ text: String, fileProblem: @escaping (String) -> String? = { _ in nil }) -> [String] {
    do {
        _ = try HostConfiguration.parse(
            Array(text.utf8), file: "c.yaml", folder: "/etc", files: ConfigurationFiles(pluginProblem: fileProblem))
        return []
    } catch {
        return error.errors.map(\.description)
    }
}

/// A file with `more`, one plugin and one route.
private func with(_ more: String) -> String {
    more + "\nplugins: {e: {path: e.so}}\nroutes: [{vaddr: e, plugin: e}]\n"
}

@Suite struct HostConfigurationErrorTests {
    @Test func `all errors are reported at once in the order of the file`() {
        let text = """
            nodes: {}
            node: {listen: [127.0.0.1, 127.0.0.1:1, 127.0.0.1:1], join: 5, drain: [1]}
            defaults:
              compresion: true
              compression: maybe
              timeouts: {serving: 10, chan_accept: none}
              drain: 30 minutes
            plugins:
              files: {path: missing.so, sha256: abc, treads: 4}
              nothing: {config: {a: 1}}
            routes:
              - {vaddr: a, plugin: filse}
              - {vaddr: a, plugin: nothing, drain: 1s, drain: 2s}
              - plugin: files
              - vaddr: ""
            """
        #expect(
            errors(text, fileProblem: { $0 == "/etc/missing.so" ? "does not exist" : nil }) == [
                "c.yaml:1:1: unknown key 'nodes'; did you mean 'node'?",
                "c.yaml:2:17: expected an address such as 127.0.0.1:5555: '127.0.0.1' has no port",
                "c.yaml:2:41: duplicate address 127.0.0.1:1 (first: line 2, column 28)",
                "c.yaml:2:61: expected an address such as 127.0.0.1:5555, found the integer 5: write 127.0.0.1:5",
                "c.yaml:2:71: expected a duration such as 30s, found a list",
                "c.yaml:4:3: unknown key 'compresion'; did you mean 'compression'?",
                "c.yaml:5:16: expected true or false, found the text 'maybe'",
                "c.yaml:6:23: expected a duration such as 30s, or none: '10' has no unit (h, m, s, ms, us or ns)",
                "c.yaml:6:40: expected a duration such as 30s: 'none' does not begin with a number",
                "c.yaml:7:10: expected a duration such as 30s: '30 minutes' has the unknown unit ' minutes' "
                    + "(known: h, m, s, ms, us, ns)",
                "c.yaml:9:17: the plugin's file '/etc/missing.so' does not exist",
                "c.yaml:9:37: expected a SHA-256 of 64 hexadecimal digits, found 'abc'",
                "c.yaml:9:42: unknown key 'treads'; did you mean 'threads'?",
                "c.yaml:10:3: the plugin 'nothing' needs the key 'path'",
                "c.yaml:12:24: no plugin has the name 'filse'; did you mean 'files'?",
                "c.yaml:13:13: duplicate vaddr 'a' (first: line 12, column 13)",
                "c.yaml:13:44: duplicate key 'drain' (first: line 13, column 33)",
                "c.yaml:14:5: the route needs the key 'vaddr'",
                "c.yaml:15:5: the route needs the key 'plugin'",
                "c.yaml:15:12: expected a virtual address such as files, found an empty text",
            ])
    }

    @Test(arguments: [
        (
            "node: 5",
            "1:7: expected a mapping with the node (name, listen, join, role, environment, drain, control, limits), "
                + "found the integer 5"
        ),
        (
            "node: {colour: 1}",
            "1:8: unknown key 'colour' (known: name, listen, join, role, environment, drain, control, limits)"
        ),
        (
            "node: {role: ruter}",
            "1:14: unknown role 'ruter'; did you mean 'router'?"
        ),
        ("node: {role: boss}", "1:14: unknown role 'boss' (known: client, server, peer, router)"),
        (
            "node: {role: 5}",
            "1:14: expected a role (client, server, peer, router), found the integer 5; put it in quotes"
        ),
        ("node: {role: [peer]}", "1:14: expected a role (client, server, peer, router), found a list"),
        (
            "node: {role: client}",
            "1:14: a node with the role client announces no services, so its routes cannot be reached "
                + "(first route: line 3, column 10): choose server, peer or router"
        ),
        (
            "node: {limits: 5}",
            "1:16: expected a mapping with the node's limits (links, streams, half_open, services, buffer, "
                + "total_buffer, bytes_per_second), found the integer 5"
        ),
        ("node: {limits: {stream: 1}}", "1:17: unknown key 'stream'; did you mean 'streams'?"),
        ("node: {limits: {links: 0}}", "1:24: 0 is not from 1 to 16777216"),
        ("node: {limits: {half_open: 16777217}}", "1:28: 16777217 is not from 1 to 16777216"),
        ("node: {limits: {services: many}}", "1:27: expected an integer, found the text 'many'"),
        ("node: {limits: {buffer: 64KiB}}", "1:25: 64KiB is not from 1MiB to 1TiB"),
        (
            "defaults: {limits: {address_space: 1GiB}}",
            "1:21: unknown key 'address_space': it belongs under 'limits' of a plugin"
        ),
        (
            "node: {limits: {total_buffer: 2PiB}}",
            "1:31: expected a size such as 64KiB: '2PiB' has an unknown unit "
                + "(known: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"
        ),
        (
            "node: {limits: {total_buffer: 2MiB, buffer: 3MiB}}",
            "1:45: buffer, the limit of one link (3MiB), is larger than total_buffer, "
                + "the limit of all links (2MiB)"
        ),
        ("node: {control: }", "1:17: expected a path, found nothing"),
        ("node: {control: ''}", "1:17: expected a path, found the text ''"),
        ("node: {control: [a]}", "1:17: expected a path, found a list"),
        ("node: {listen: []}", "1:16: expected at least one address to listen at"),
        ("node: {listen: }", "1:16: expected an address such as 127.0.0.1:5555, found nothing"),
        (
            "node: {listen: ':80'}",
            "1:16: expected an address such as 127.0.0.1:5555: ':80' has no host: write 127.0.0.1:80, "
                + "or 0.0.0.0:80 for all addresses"
        ),
        (
            "node: {listen: 'a:65536'}",
            "1:16: expected an address such as 127.0.0.1:5555: '65536' is not a port (0 to 65535)"
        ),
        (
            "node: {listen: 29500}",
            "1:16: expected an address such as 127.0.0.1:5555, found the integer 29500: write 127.0.0.1:29500, "
                + "or 0.0.0.0:29500 for all addresses"
        ),
        (
            "node: {join: 29500}",
            "1:14: expected an address such as 127.0.0.1:5555, found the integer 29500: write 127.0.0.1:29500"
        ),
        (
            "node: {listen: '*:29501'}",
            "1:16: expected an address such as 127.0.0.1:5555: '*' is not a host: write 0.0.0.0 for all IPv4 addresses "
                + "or [::] for all"
        ),
        (
            "node: {join: 'http://127.0.0.1:29500/x'}",
            "1:14: expected an address such as 127.0.0.1:5555: 'http://127.0.0.1:29500/x' is a URL: "
                + "write 127.0.0.1:29500"
        ),
        (
            "node: {join: 'a:1, b:2'}",
            "1:14: expected an address such as 127.0.0.1:5555: 'a:1, b:2' has several addresses: "
                + "write several addresses as a list"
        ),
        (
            "node: {join: 'a:70000'}",
            "1:14: expected an address such as 127.0.0.1:5555: '70000' is not a port (1 to 65535)"
        ),
        ("node: {listen: 'a:'}", "1:16: expected an address such as 127.0.0.1:5555: 'a:' has no port"),
        ("node: {listen: 'a:b'}", "1:16: expected an address such as 127.0.0.1:5555: 'b' is not a port (0 to 65535)"),
        ("node: {listen: 'a:-1'}", "1:16: expected an address such as 127.0.0.1:5555: '-1' is not a port (0 to 65535)"),
        (
            "node: {listen: '::1:80'}",
            "1:16: expected an address such as 127.0.0.1:5555: '::1:80' has several colons; an IPv6 address goes in brackets"
        ),
        ("node: {listen: '[::1:80'}", "1:16: expected an address such as 127.0.0.1:5555: '[::1:80' has no ']'"),
        (
            "node: {listen: '[abc]:80'}",
            "1:16: expected an address such as 127.0.0.1:5555: 'abc' is not an IPv6 address"
        ),
        ("node: {listen: '[::1]80'}", "1:16: expected an address such as 127.0.0.1:5555: '[::1]80' has no port"),
        ("node: {listen: 'a b:80'}", "1:16: expected an address such as 127.0.0.1:5555: 'a b' is not a host name"),
        ("node: {join: 'a:0'}", "1:14: expected an address such as 127.0.0.1:5555: '0' is not a port (1 to 65535)"),
        ("node: {join: [[a]]}", "1:15: expected an address such as 127.0.0.1:5555, found a list"),
        ("node: {environment: ''}", "1:21: expected an environment such as staging, found an empty text"),
        (
            "node: {environment: 1}",
            "1:21: expected an environment such as staging, found the integer 1; put it in quotes"
        ),
    ])
    func `an invalid node section is refused with the location and the reason`(text: String, message: String) {
        #expect(errors(with(text)) == ["c.yaml:" + message])
    }

    @Test(arguments: [
        (
            "[]",
            "1:11: expected a mapping with the defaults "
                + "(compression, timeouts, error_mass, drain, batch_size, limits, deploy, access, "
                + "isolation, call_budget, startup, preflight, processes, kill_after, heartbeat_timeout, nice, environment), found a list"
        ),
        (
            "{vaddr: a}",
            "1:12: unknown key 'vaddr' (known: compression, timeouts, error_mass, drain, batch_size, limits, deploy, access, "
                + "isolation, call_budget, startup, preflight, processes, kill_after, heartbeat_timeout, nice, environment)"
        ),
        ("{compression: 'true'}", "1:25: expected true or false, found the text 'true'"),
        ("{compression: yes}", "1:25: expected true or false, found the text 'yes'"),
        (
            "{timeouts: 30s}",
            "1:22: expected a mapping with timeouts (serving, sourcing, chan_accept, master_read, "
                + "master_write, frame_write), found the text '30s'"
        ),
        ("{timeouts: {servin: 1s}}", "1:23: unknown key 'servin'; did you mean 'serving'?"),
        ("{timeouts: {serving: 0}}", "1:32: the timeout must be more than 0"),
        ("{timeouts: {serving: }}", "1:32: expected a duration such as 30s, or none, found nothing"),
        ("{timeouts: {serving: 1.5}}", "1:32: expected a duration such as 30s, or none, found the number 1.5"),
        ("{timeouts: {serving: 8761h}}", "1:32: 8761h is more than a year (8760h)"),
        (
            "{timeouts: {serving: -1s}}",
            "1:32: expected a duration such as 30s, or none: '-1s' is negative"
        ),
        ("{timeouts: {chan_accept: 0s}}", "1:36: the timeout must be more than 0"),
        ("{error_mass: {limit: 0}}", "1:32: 0 is not from 1 to 1000000"),
        ("{error_mass: {limit: never}}", "1:32: expected an integer, or none, found the text 'never'"),
        ("{error_mass: {limit: 99999999999999999999}}", "1:32: '99999999999999999999' does not fit a 64-bit integer"),
        ("{error_mass: {pause: 0}}", "1:32: the pause must be more than 0"),
        ("{error_mass: {pause: 6m}}", "1:32: the pause (6m) is longer than max_pause (5m)"),
        ("{error_mass: {max_pause: 1s}}", "1:36: the pause (30s) is longer than max_pause (1s)"),
        ("{drain: none}", "1:19: expected a duration such as 30s: 'none' does not begin with a number"),
        (
            "{batch_size: 64kb}",
            "1:24: expected a size such as 64KiB: '64kb' has an unknown unit; "
                + "did you mean 64KiB (65536) or 64kB (64000)?"
        ),
        ("{batch_size: 0}", "1:24: 0 is not from 1B to 64MiB"),
        ("{batch_size: 65MiB}", "1:24: 65MiB is not from 1B to 64MiB"),
        ("{limits: {requests: 0}}", "1:31: 0 is not from 1 to 1000000"),
        ("{limits: {concurrent: 0}}", "1:33: 0 is not from 1 to 1000000"),
        ("{limits: {concurrent: 1000001}}", "1:33: 1000001 is not from 1 to 1000000"),
        ("{limits: {concurrent: many}}", "1:33: expected an integer, or none, found the text 'many'"),
        ("{limits: {concurent: 1}}", "1:21: unknown key 'concurent'; did you mean 'concurrent'?"),
        ("{limits: {request: 1}}", "1:21: unknown key 'request'; did you mean 'requests'?"),
    ])
    func `invalid options are refused with the location and the reason`(text: String, message: String) {
        #expect(errors(with("defaults: " + text)) == ["c.yaml:" + message])
    }

    @Test func `a pause longer than max_pause is reported only where it is written`() {
        let text = """
            plugins: {e: {path: e.so}}
            routes:
              - {vaddr: a, plugin: e, error_mass: {pause: 10m}}
              - {vaddr: b, plugin: e, error_mass: {limit: 1}}
            """
        #expect(errors(text) == ["c.yaml:3:47: the pause (10m) is longer than max_pause (5m)"])
    }

    @Test(arguments: [
        ("plugins: []\n", "1:10: expected a mapping from names to plugins, found a list"),
        (
            "plugins: {e: e.so}\n",
            "1:14: expected a mapping with a plugin (path, sha256, threads, inline, config, isolation, call_budget, "
                + "startup, preflight, processes, kill_after, heartbeat_timeout, nice, environment, limits), found the text 'e.so'"
        ),
        ("plugins: {e: }\n", "1:11: the plugin 'e' needs the key 'path'"),
        ("plugins: {e: {path: [a]}}\n", "1:21: expected a path, found a list"),
        ("plugins: {e: {path: ''}}\n", "1:21: expected a path, found the text ''"),
        ("plugins: {e: {path: \"a\\0b\"}}\n", "1:21: expected a path, found the text 'a\\u{0}b'"),
        ("plugins: {'': {path: a}}\n", "1:11: expected the name of a plugin, found an empty text"),
        ("plugins: {\"a\\n\": {path: a}}\n", "1:11: 'a\\u{a}' has a control character in it"),
        ("plugins: {e: {path: a, threads: 0}}\n", "1:33: 0 is not from 1 to 1024"),
        ("plugins: {e: {path: a, threads: many}}\n", "1:33: expected an integer, found the text 'many'"),
        ("plugins: {e: {path: a, inline: no}}\n", "1:32: expected true or false, found the text 'no'"),
        ("plugins: {e: {path: a, inlin: true}}\n", "1:24: unknown key 'inlin'; did you mean 'inline'?"),
        ("plugins: {e: {path: a, config: [1]}}\n", "1:32: expected a mapping with the plugin's keys, found a list"),
        ("plugins: {e: {path: a, config: {x: [.nan]}}}\n", "1:37: expected a finite number, found the number .nan"),
        ("plugins: {e: {path: a, sha256: }}\n", "1:32: expected a SHA-256 of 64 hexadecimal digits, found nothing"),
    ])
    func `an invalid plugin is refused with the location and the reason`(text: String, message: String) {
        #expect(errors(text) == ["c.yaml:" + message])
    }

    @Test func `a sha256 that has only digits is read as text`() throws {
        let pin = String(repeating: "1", count: 64)
        let configuration = try HostConfiguration.parse(
            "plugins: {e: {path: a, sha256: \(pin)}}", file: "c.yaml", folder: "/")
        #expect(configuration.plugins[0].sha256 == pin)
    }

    @Test(arguments: [
        ("routes: {}", "1:9: expected a list of routes, each with vaddr and plugin, found a mapping"),
        ("routes: [e]", "1:10: expected a route with vaddr and plugin, found the text 'e'"),
        (
            "routes: [{vaddr: 1, plugin: e}]",
            "1:18: expected a virtual address such as files, found the integer 1; put it in quotes"
        ),
        ("routes: [{vaddr: \"a\\tb\", plugin: e}]", "1:18: 'a\\u{9}b' has a control character in it"),
        ("routes: [{vaddr: a, plugin: x}]", "1:29: no plugin has the name 'x'"),
        ("routes: [{vaddr: a, plugin: ~}]", "1:29: expected the name of a plugin, found nothing"),
        ("routes: [{vaddr: a, plugin: e, pluginn: e}]", "1:32: unknown key 'pluginn'; did you mean 'plugin'?"),
        (
            "routes: [{vaddr: a, plugin: e, config: 1}]",
            "1:40: expected a mapping with the plugin's keys, found the integer 1"
        ),
        (
            "routes: [{vaddr: a, plugin: e, config: {x: -.inf}}]",
            "1:44: expected a finite number, found the number -.inf"
        ),
    ])
    func `an invalid route is refused with the location and the reason`(text: String, message: String) {
        #expect(errors(text + "\nplugins: {echo: {path: a}, e: {path: a}}\n") == ["c.yaml:" + message])
    }

    @Test func `the length of a vAddr is limited in bytes and includes the environment`() {
        func route(_ name: String, _ node: String = "node: {}") -> [String] {
            errors("\(node)\nplugins: {e: {path: a}}\nroutes: [{vaddr: \(name), plugin: e}]\n")
        }
        #expect(route(String(repeating: "a", count: 255)) == [])
        #expect(
            route(String(repeating: "é", count: 128)) == [
                "c.yaml:3:18: '\(String(repeating: "é", count: 60))…' is longer than 255 bytes (it has 256)"
            ])
        #expect(route(String(repeating: "a", count: 253), "node: {environment: e}") == [])
        #expect(
            route(String(repeating: "a", count: 254), "node: {environment: e}") == [
                "c.yaml:3:18: '\(String(repeating: "a", count: 60))…' with the environment is longer than 255 bytes"
            ])
    }

    @Test func `an error of a plugin is not reported again for its route`() {
        #expect(
            errors("plugins: {e: {path: 5}}\nroutes: [{vaddr: a, plugin: e}]")
                == ["c.yaml:1:21: expected a path, found the integer 5; put it in quotes"])
    }

    @Test func `a value that the YAML reader refuses has no further errors`() {
        #expect(
            errors("node: *x\ndefaults: !a {}\nplugins: {e: {path: *y}}\nroutes: [*z, {vaddr: *v, plugin: e}]") == [
                "c.yaml:1:7: undefined alias *x: no anchor &x before it",
                "c.yaml:2:11: the tag '!a' does not fit here",
                "c.yaml:3:21: undefined alias *y: no anchor &y before it",
                "c.yaml:4:10: undefined alias *z: no anchor &z before it",
                "c.yaml:4:22: undefined alias *v: no anchor &v before it",
            ])
    }

    @Test(arguments: ["", "# nothing\n", "\n\n"])
    func `an empty file is refused`(text: String) {
        #expect(
            errors(text) == [
                "c.yaml: configuration file is empty: add the sections 'plugins' and 'routes' (docs/configuration.md)"
            ])
    }

    @Test func `a root that is not a mapping is refused`() {
        #expect(
            errors("- a\n") == [
                "c.yaml:1:1: expected a mapping with the configuration "
                    + "(node, log, access, defaults, include, drop_in, plugins, routes), found a list"
            ])
    }

    @Test func `a syntax error is reported alone`() {
        #expect(
            errors("nodes: {}\nnode: [\n") == [
                "c.yaml:3:1: did not find expected node content (while parsing a flow node)"
            ])
    }

    @Test func `control characters in a file are escaped in its errors`() {
        let text = errors("\"a\\nb\\u001b[31m\\u202e\": 1").joined()
        #expect(text.hasPrefix(#"c.yaml:1:1: unknown key 'a\u{a}b\u{1b}[31m\u{202e}'"#))
    }

    @Test func `every damaged file is either accepted or refused with a valid location`() {
        let whole = Array(
            """
            node:
              listen: [127.0.0.1:1, '[::1]:2', {address: 'a:3', tls: {certificate: a, key: b}}, unix:s]
              join: {address: 'b:4', tls: {ca: c, min_version: 1.2}}
              environment: é
            access:
              identities: {a: {uri: 'x:/*', listen: unix:s}, b: [{dns: '*.b'}, {uid: 1}]}
              announce: [{vaddr: a*, by: [a]}, {vaddr: '*', by: any}]
              relay: b
            defaults: &d
              timeouts: {serving: 1m30s, chan_accept: 5s}
              limits: {requests: 0x10}
            plugins:
              files: {path: a.so, config: &c {root: "/\\x41", list: [1, 2.5, ~]}}
            routes:
              - {vaddr: a, plugin: files, config: *c, error_mass: {limit: 3}}
              - {vaddr: c, plugin: files, access: {allow: [a, any], rate: 1/s, burst: 2}}
              - vaddr: |-
                  b
                plugin: files
            """.utf8)
        #expect(place(of: whole) == nil)
        for index in whole.indices {
            var variants = [Array(whole[..<index]), Array(whole[..<index] + whole[(index + 1)...])]
            for byte in "\u{0}\t\n :-[{*\"x".utf8 + [0xFF] {
                variants.append(Array(whole[..<index]) + [byte] + whole[(index + 1)...])
            }
            for variant in variants {
                guard let place = place(of: variant) else { continue }
                let lines = variant.count { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") } + 2
                #expect((0...lines).contains(place.line), "\(String(decoding: variant, as: UTF8.self))")
                #expect((0...variant.count + 1).contains(place.column), "\(String(decoding: variant, as: UTF8.self))")
            }
        }
    }

    /// The location of the first error of a file; `nil` if it has none.
    private func place(of bytes: [UInt8]) -> ConfigurationLocation? {
        do {
            _ = try HostConfiguration.parse(bytes, file: "c.yaml", folder: "/", files: ConfigurationFiles())
            return nil
        } catch {
            return error.errors[0].location
        }
    }
}
