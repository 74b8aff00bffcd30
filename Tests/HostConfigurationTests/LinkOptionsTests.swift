import HostConfiguration
import Testing

/// Reads a file with this section `node`.
private func node(_ text: String) throws -> HostConfiguration.Node {
    try HostConfiguration.parse("node: \(text)\nroutes: []\n", file: "c.yaml", folder: "/etc").node
}

private func errors(_ text: String) -> [String] {
    do {
        _ = try HostConfiguration.parse("node: \(text)\nroutes: []\n", file: "c.yaml", folder: "/etc")
        return []
    } catch {
        return error.errors.map(\.description)
    }
}

@Suite struct LinkOptionsTests {
    @Test func `TLS of a listener is read with the positions of its files`() throws {
        let node = try node(
            """

              listen:
                - 127.0.0.1:5556
                - address: "0.0.0.0:5555"
                  tls:
                    certificate: host.pem
                    key: /keys/host.key
                    client_ca: mesh.pem
                    require: false
                    min_version: 1.2
                - {address: "[::]:0", tls: {certificate: a, key: b}}
            """)
        #expect(node.listen.map(\.address.description) == ["127.0.0.1:5556", "0.0.0.0:5555", "[::]:0"])
        #expect(node.listen[0].tls == nil)
        let tls = try #require(node.listen[1].tls)
        #expect(tls.certificate.path == "/etc/host.pem")
        #expect(tls.certificate.location.description == "c.yaml:6:22")
        #expect(tls.key.path == "/keys/host.key")
        #expect(tls.key.location.description == "c.yaml:7:14")
        #expect(tls.clientCA?.path == "/etc/mesh.pem")
        #expect(tls.clientCA?.location.description == "c.yaml:8:20")
        #expect(!tls.isRequired)
        #expect(tls.minimumVersion == .v1_2)
        #expect(node.listen[1].location?.description == "c.yaml:4:16")
        let defaults = try #require(node.listen[2].tls)
        #expect(defaults.isRequired && defaults.minimumVersion == .v1_3 && defaults.clientCA == nil)
    }

    @Test func `TLS of a node to join is read, and may be empty`() throws {
        let node = try node(
            """
            {join: [{address: "router-1:5555", tls: {ca: ca.pem, certificate: c.pem, key: c.key, name: r.mesh,
              min_version: "1.2"}}, {address: "router-2:5555", tls: {}}, {address: router-3:5555}, "unix:r.sock"]}
            """)
        let tls = try #require(node.join[0].tls)
        #expect(tls.ca?.path == "/etc/ca.pem")
        #expect(tls.certificate?.path == "/etc/c.pem")
        #expect(tls.key?.path == "/etc/c.key")
        #expect(tls.name == "r.mesh")
        #expect(tls.minimumVersion == .v1_2)
        #expect(node.join[1].tls == ClientTLSOptions())
        #expect(node.join[2].tls == nil)
        #expect(node.join.map(\.address.description).last == "unix:/etc/r.sock")
    }

    @Test func `one mapping needs no list`() throws {
        let node = try node("{listen: {address: 127.0.0.1:1}, join: {address: a:1, tls: {}}}")
        #expect(node.listen == [ListenOptions(.tcp(host: "127.0.0.1", port: 1))])
        #expect(node.join == [JoinOptions(.tcp(host: "a", port: 1), tls: ClientTLSOptions())])
    }

    @Test(arguments: [
        (
            "{listen: [{adress: a:1}]}",
            ["1:17: a listener needs the key 'address'", "1:18: unknown key 'adress'; did you mean 'address'?"]
        ),
        ("{join: [{}]}", ["1:15: a node to join needs the key 'address'"]),
        (
            "{listen: {address: a:1, tls: {}}}",
            ["1:31: TLS of a listener needs the key 'certificate'", "1:31: TLS of a listener needs the key 'key'"]
        ),
        ("{listen: {address: a:1, tls: {certificate: a}}}", ["1:31: TLS of a listener needs the key 'key'"]),
        ("{listen: {address: a:1, tls: {key: a}}}", ["1:31: TLS of a listener needs the key 'certificate'"]),
        (
            "{listen: {address: a:1, tls: true}}",
            [
                "1:36: expected a mapping with TLS of a listener (certificate, key, client_ca, require, min_version), "
                    + "found the boolean true"
            ]
        ),
        (
            "{listen: {address: a:1, tls: {certificate: a, key: b, ca: c}}}",
            ["1:61: unknown key 'ca' (known: certificate, key, client_ca, require, min_version)"]
        ),
        (
            "{listen: {address: a:1, tls: {certificate: a, key: b, client_cas: c}}}",
            ["1:61: unknown key 'client_cas'; did you mean 'client_ca'?"]
        ),
        (
            "{listen: {address: a:1, tls: {certificate: a, key: 5}}}",
            ["1:58: expected a path, found the integer 5; put it in quotes"]
        ),
        ("{join: {address: a:1, tls: {certificate: a}}}", ["1:35: 'certificate' needs 'key' beside it"]),
        ("{join: {address: a:1, tls: {key: a}}}", ["1:35: 'key' needs 'certificate' beside it"]),
        (
            "{join: {address: a:1, tls: {min_version: 1.1}}}",
            ["1:48: expected a version of TLS (1.2 or 1.3), found the number 1.1"]
        ),
        (
            "{join: {address: a:1, tls: {name: 'a b'}}}",
            ["1:41: expected a name such as router-1.example.org, found the text 'a b'"]
        ),
        ("{join: {address: 'unix:/a', tls: {}}}", ["1:35: a Unix socket needs no TLS: remove 'tls'"]),
        (
            "{listen: [127.0.0.1:1, {address: 127.0.0.1:1}]}",
            ["1:40: duplicate address 127.0.0.1:1 (first: line 1, column 17)"]
        ),
        (
            "{listen: [{address: 127.0.0.1:0, tls: {certificate: a, key: b}}, 127.0.0.1:0]}",
            ["1:72: duplicate address 127.0.0.1:0 (first: line 1, column 27)"]
        ),
        ("{limits: {bytes_per_second: 1}}", ["1:35: 1B is not from 256KiB to 1TiB"]),
    ])
    func `invalid links are refused with the location and the reason`(text: String, messages: [String]) {
        #expect(errors(text) == messages.map { "c.yaml:" + $0 })
    }

    @Test(arguments: [
        ("{join: 'unix:'}", "1:14: expected an address such as 127.0.0.1:5555: 'unix:' has no path"),
        (
            "{join: 'unix:///run/a'}",
            "1:14: expected an address such as 127.0.0.1:5555: 'unix:///run/a' is a URL: write unix:/run/a"
        ),
        (
            "{join: /run/a}",
            "1:14: expected an address such as 127.0.0.1:5555: '/run/a' is a path: write unix:/run/a for a Unix socket"
        ),
        (
            "{listen: 'unix:@a'}",
            "1:16: expected an address such as 127.0.0.1:5555: 'unix:@a' is an abstract socket, which has no "
                + "permissions: write a path"
        ),
        (
            "{listen: 'unix:/a, unix:/b'}",
            "1:16: expected an address such as 127.0.0.1:5555: 'unix:/a, unix:/b' has several addresses: "
                + "write several addresses as a list"
        ),
        (
            "{listen: [unix:a, unix:/etc/a]}",
            "1:25: duplicate address unix:/etc/a (first: line 1, column 17)"
        ),
        (
            "{listen: \"unix:a\\tb\"}",
            "1:16: expected an address such as 127.0.0.1:5555: 'unix:a\\u{9}b' has a control character in it"
        ),
        (
            "{listen: unix:\(String(repeating: "a", count: 103))}",
            "1:16: expected an address such as 127.0.0.1:5555: the path of the socket "
                + "'/etc/\(String(repeating: "a", count: 55))…' has 108 bytes, but at most 103 are allowed: choose a "
                + "shorter one, such as unix:/run/chanserv/mesh.sock"
        ),
    ])
    func `an invalid address of a Unix socket is refused with the location and the reason`(
        text: String, message: String
    ) {
        #expect(errors(text) == ["c.yaml:" + message])
    }

    @Test func `a change of TLS is a change of the listener, and a moved line is none`() throws {
        let one = try node("{listen: {address: 127.0.0.1:1, tls: {certificate: a, key: b}}}")
        let moved = try node("{listen: [ {tls: {key: /etc/b, certificate: /etc/a}, address: 127.0.0.1:1}]}")
        #expect(one == moved)
        #expect(moved.changes(since: one).isEmpty)
        let other = try node("{listen: {address: 127.0.0.1:1, tls: {certificate: a, key: b, require: false}}}")
        #expect(one != other)
        let change = try #require(other.changes(since: one).first)
        #expect(change.key == "listen")
        #expect(
            change.value
                == "{address: '127.0.0.1:1', tls: {certificate: /etc/a, key: /etc/b, require: false, min_version: 1.3}}"
        )
    }

    @Test func `the byte rate of a link is none by default`() throws {
        #expect(try node("{}").limits.bytesPerSecond == nil)
        #expect(try node("{limits: {bytes_per_second: 10MB}}").limits.bytesPerSecond == 10_000_000)
        #expect(try node("{limits: {bytes_per_second: none}}").limits.bytesPerSecond == nil)
    }
}
