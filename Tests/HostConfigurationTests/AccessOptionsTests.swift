import HostConfiguration
import Testing

/// A file with `top`, one plugin and `routes`.
private func file(_ top: String, _ routes: String) -> String {
    "\(top)\nplugins: {e: {path: e.so}}\nroutes: \(routes)\n"
}

private func parse(
    _ top: String, routes: String = "[{vaddr: e, plugin: e, access: {allow: [any]}}]"
) throws -> HostConfiguration {
    try HostConfiguration.parse(file(top, routes), file: "c.yaml", folder: "/etc")
}

private func errors(
    _ top: String, routes: String = "[{vaddr: e, plugin: e}]"
) -> [String] {
    do {
        _ = try HostConfiguration.parse(file(top, routes), file: "c.yaml", folder: "/etc")
        return []
    } catch {
        return error.errors.map(\.description)
    }
}

@Suite struct AccessOptionsTests {
    private static let digest = String(repeating: "0A", count: 32)

    @Test func `identities, rules and relays are read`() throws {
        let configuration = try parse(
            """
            node: {listen: [127.0.0.1:5555, "unix:m.sock"]}
            access:
              identities:
                shop: {uri: "spiffe://mesh/shop/*", listen: 127.0.0.1:5555}
                pay:
                  - {dns: "*.pay.mesh"}
                  - {sha256: \(Self.digest), uid: 0}
                local: {listen: "unix:/etc/m.sock"}
              announce:
                - {vaddr: "payments*", by: [pay, shop]}
                - {vaddr: "*", by: any}
              relay: local
            """)
        let access = try #require(configuration.access)
        #expect(access.identities.map(\.name) == ["shop", "pay", "local"])
        #expect(access.identities[0].matchers.map(\.uri) == ["spiffe://mesh/shop/*"])
        #expect(access.identities[0].matchers[0].listen == .tcp(host: "127.0.0.1", port: 5555))
        #expect(access.identities[1].matchers.map(\.dns) == ["*.pay.mesh", nil])
        #expect(access.identities[1].matchers[1].sha256 == Self.digest.lowercased())
        #expect(access.identities[1].matchers[1].userID == 0)
        #expect(access.identities[2].matchers[0].listen == .unix(path: "/etc/m.sock"))
        #expect(access.announce.map(\.vAddr) == ["payments*", "*"])
        #expect(access.announce.map(\.by) == [["pay", "shop"], ["any"]])
        #expect(access.relay == ["local"])
        #expect(configuration.warnings == [])
    }

    @Test func `a file without the section has no rules, and an empty section allows nothing`() throws {
        #expect(try parse("", routes: "[{vaddr: e, plugin: e}]").access == nil)
        for text in ["access:", "access: {}"] {
            let configuration = try parse(text)
            #expect(configuration.access == AccessOptions())
            #expect(configuration.warnings == [])
        }
    }

    @Test(arguments: [
        ("[]", "1:9: expected a mapping with the access rules (identities, announce, relay), found a list"),
        ("{identity: {}}", "1:10: unknown key 'identity'; did you mean 'identities'?"),
        ("{identities: [a]}", "1:22: expected a mapping from names to identities, found a list"),
        ("{identities: {any: {uid: 1}}}", "1:23: 'any' stands for every caller: choose another name"),
        (
            "{identities: {a: {}}}",
            "1:26: an identity without properties matches no caller: add at least one of uri, dns, sha256, uid, listen"
        ),
        (
            "{identities: {a: []}}",
            "1:26: an identity without properties matches no caller: add at least one of uri, dns, sha256, uid, listen"
        ),
        ("{identities: {a: {url: x}}}", "1:27: unknown key 'url'; did you mean 'uri'?"),
        ("{identities: {a: {uri: 'a*b'}}}", "1:32: 'a*b' has a '*' that is not at the end"),
        ("{identities: {a: {uri: ''}}}", "1:32: expected a URI such as spiffe://mesh/shop/*, found an empty text"),
        (
            "{identities: {a: {dns: 'a.*.b'}}}",
            "1:32: expected a DNS name such as shop.example.org or *.shop.example.org, found the text 'a.*.b'"
        ),
        (
            "{identities: {a: {dns: '*'}}}",
            "1:32: expected a DNS name such as shop.example.org or *.shop.example.org, found the text '*'"
        ),
        (
            "{identities: {a: {dns: '*.'}}}",
            "1:32: expected a DNS name such as shop.example.org or *.shop.example.org, found the text '*.'"
        ),
        ("{identities: {a: {sha256: abc}}}", "1:35: expected a SHA-256 of 64 hexadecimal digits, found 'abc'"),
        ("{identities: {a: {uid: -1}}}", "1:32: -1 is not from 0 to 4294967294"),
        ("{identities: {a: {uid: root}}}", "1:32: expected a user ID such as 1000, found the text 'root'"),
        (
            "{identities: {a: {listen: 127.0.0.1:5556}}}",
            "1:35: 127.0.0.1:5556 is not an address of node.listen (127.0.0.1:5555)"
        ),
        ("{announce: {}}", "1:20: expected a list of rules, each with vaddr and by, found a mapping"),
        ("{announce: [a]}", "1:21: expected a rule with vaddr and by, found the text 'a'"),
        ("{announce: [{vaddr: a}]}", "1:21: the rule needs the key 'by'"),
        ("{announce: [{by: any}]}", "1:21: the rule needs the key 'vaddr'"),
        (
            "{announce: [{vaddr: a*, by: []}, {vaddr: a, by: []}, {vaddr: 'a*', by: any}]}",
            "1:70: duplicate vaddr 'a*' (first: line 1, column 29)"
        ),
        ("{announce: [{vaddr: '*a', by: []}]}", "1:29: '*a' has a '*' that is not at the end"),
        (
            "{identities: {shop: {uid: 1}}, announce: [{vaddr: a, by: [shp]}]}",
            "1:67: no identity has the name 'shp'; did you mean 'shop'?"
        ),
        ("{relay: [routers]}", "1:18: no identity has the name 'routers'"),
        ("{relay: any, identities: 5}", "1:34: expected a mapping from names to identities, found the integer 5"),
        // An invalid identity is known: its name is not reported again.
        ("{identities: {a: {uid: x}}, relay: a}", "1:32: expected a user ID such as 1000, found the text 'x'"),
    ])
    func `invalid rules are refused with the location and the reason`(text: String, message: String) {
        #expect(errors("access: " + text) == ["c.yaml:" + message])
    }

    @Test func `a wrong list of identities is not reported again for its names`() {
        let route = "[{vaddr: e, plugin: e, access: {allow: b}}]"
        #expect(
            errors("access: {identities: [a], relay: a}", routes: route) == [
                "c.yaml:1:22: expected a mapping from names to identities, found a list"
            ])
        #expect(errors("access: *x", routes: route) == ["c.yaml:1:9: undefined alias *x: no anchor &x before it"])
    }

    @Test func `a wrong listener is not reported again for the identity that names it`() {
        #expect(
            errors("node: {listen: a}\naccess: {identities: {a: {listen: 'b:1'}}}") == [
                "c.yaml:1:16: expected an address such as 127.0.0.1:5555: 'a' has no port"
            ])
    }

    @Test func `access of a route is merged over the defaults key by key`() throws {
        let configuration = try parse(
            "access: {identities: {a: {uid: 1}, b: {uid: 2}}}\n"
                + "defaults: {access: {allow: a, rate: 100/s, burst: 200, concurrent: 50}}",
            routes: """
                [{vaddr: x, plugin: e}, {vaddr: y, plugin: e, access: {allow: [b, a], rate: 7/m, concurrent: none}},
                  {vaddr: z, plugin: e, access: {allow: [], rate: none, burst: none}}]
                """)
        let access = configuration.routes.map(\.options.access)
        #expect(access.map(\.allow) == [["a"], ["a", "b"], []])
        #expect(
            access.map(\.rate) == [
                RequestRate(requests: 100, per: .second), RequestRate(requests: 7, per: .minute), nil,
            ])
        #expect(access.map(\.burst) == [200, 200, nil])
        #expect(access.map(\.concurrent) == [50, nil, 50])
        #expect(configuration.warnings == [])
    }

    @Test func `limits of callers need no section access`() throws {
        let configuration = try parse("", routes: "[{vaddr: e, plugin: e, access: {rate: 3/h, concurrent: 1}}]")
        #expect(configuration.routes[0].options.access.rate == RequestRate(requests: 3, per: .hour))
        #expect(configuration.warnings == [])
    }

    @Test(arguments: [
        (1, RequestRate.Unit.second, 1), (100, .second, 100), (60, .minute, 1), (61, .minute, 2), (1, .hour, 1),
        (7_201, .hour, 3),
    ])
    func `the requests of one second are rounded up`(requests: Int, unit: RequestRate.Unit, expected: Int) {
        #expect(RequestRate(requests: requests, per: unit).perSecond == expected)
    }

    @Test(arguments: [
        ("{allow: [any]}", "3:41: 'allow' needs the section 'access'"),
        ("{rate: 100}", "3:47: expected a rate such as 100/s, or none: '100' has no unit (/s, /m or /h)"),
        ("{rate: 100/d}", "3:47: expected a rate such as 100/s, or none, found the text '100/d'"),
        ("{rate: 0/s}", "3:47: 0 is not from 1 to 1000000"),
        ("{rate: 99999999999999999999/s}", "3:47: 99999999999999999999 is not from 1 to 1000000"),
        ("{burst: 5}", "3:41: 'burst' needs 'rate'"), ("{rate: 1/s, burst: 0}", "3:59: 0 is not from 1 to 1000000"),
        ("{concurrent: 0}", "3:53: 0 is not from 1 to 1000000"),
        ("{alow: any}", "3:41: unknown key 'alow'; did you mean 'allow'?"),
    ])
    func `invalid access of a route is refused with the location and the reason`(text: String, message: String) {
        #expect(errors("", routes: "[{vaddr: e, plugin: e, access: \(text)}]") == ["c.yaml:" + message])
    }

    @Test func `names in routes and defaults must be identities`() {
        #expect(
            errors(
                "access: {identities: {shop: {uid: 1}}}\ndefaults: {access: {allow: nobody}}",
                routes: "[{vaddr: e, plugin: e, access: {allow: [shop, any, shops]}}]") == [
                    "c.yaml:2:28: no identity has the name 'nobody'",
                    "c.yaml:4:60: no identity has the name 'shops'; did you mean 'shop'?",
                ])
    }

    @Test func `a route that the section denies to all is a warning with its place`() throws {
        let configuration = try parse(
            "access: {}", routes: "[{vaddr: a, plugin: e}, {vaddr: b, plugin: e, access: {allow: []}}]")
        #expect(
            configuration.warnings.map(\.description) == [
                "c.yaml:3:10: the route 'a' has no 'access.allow', so the section 'access' denies it to all: add "
                    + "'access: {allow: [NAME]}'"
            ])
    }

    @Test(arguments: [
        ("127.0.0.1:5555", false), ("127.9.8.7:5555", false), ("localhost:5555", false), ("'[::1]:5555'", false),
        ("unix:/run/a.sock", false), ("0.0.0.0:5555", true), ("'[::]:5555'", true), ("10.0.0.1:5555", true),
        ("127.example.org:5555", true), ("[127.0.0.1:1, 0.0.0.0:2, 0.0.0.0:3]", true),
        ("{address: 0.0.0.0:1, tls: {certificate: a, key: b}}", true),
        ("{address: 0.0.0.0:1, tls: {certificate: a, key: b, client_ca: c, require: false}}", true),
        ("{address: 0.0.0.0:1, tls: {certificate: a, key: b, client_ca: c}}", false),
    ])
    func `a listener for other machines without rules is one warning`(listen: String, warns: Bool) throws {
        let open = try parse("node: {listen: \(listen)}", routes: "[{vaddr: e, plugin: e}]").warnings
        #expect(open.count == (warns ? 1 : 0))
        #expect(open.allSatisfy { $0.message.contains(" accepts links from other machines without rules: ") })
        #expect(open.allSatisfy { $0.location.line == 1 })
        #expect(try parse("node: {listen: \(listen)}\naccess: {}").warnings == [])
    }
}
