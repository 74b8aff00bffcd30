import AstraNet
import Testing

/// Returns whether a peer with these credentials has an identity with one matcher.
private func matches(_ matcher: AccessRules.Matcher, _ credentials: PeerCredentials) -> Bool {
    let rules = AccessRules(identities: [AccessRules.Identity(name: "shop", matchers: [matcher])])
    return rules.names(of: credentials) == ["shop"]
}

@Suite struct AccessRulesTests {
    @Test func `rules without entries allow nothing`() {
        let rules = AccessRules()
        #expect(rules.names(of: PeerCredentials(uris: ["spiffe://mesh/shop"], userID: 0)) == [])
        #expect(!rules.mayAnnounce("payments", ["shop"]))
        #expect(!rules.mayRelay(["shop"]))
    }

    @Test(arguments: [
        ("spiffe://mesh/shop/*", "spiffe://mesh/shop/1", true), ("spiffe://mesh/shop/*", "spiffe://mesh/shop/", true),
        ("spiffe://mesh/shop/*", "spiffe://mesh/shop", false), ("spiffe://mesh/shop/*", "spiffe://mesh/shops/1", false),
        ("spiffe://mesh/shop/*", "xspiffe://mesh/shop/1", false), ("spiffe://mesh/a", "spiffe://mesh/a", true),
        ("spiffe://mesh/a", "spiffe://mesh/ab", false), ("spiffe://mesh/a", "spiffe://mesh/A", false),
        ("*", "spiffe://mesh/a", true), ("a*b", "a*b", true), ("a*b", "axb", false),
        ("spiffe://mesh/\u{e9}", "spiffe://mesh/e\u{301}", false), ("spiffe://mesh/e*", "spiffe://mesh/e\u{301}", true),
    ])
    func `a URI matches byte by byte, and a star at its end matches any rest`(
        pattern: String, uri: String, isMatch: Bool
    ) {
        #expect(matches(.init(uri: pattern), PeerCredentials(uris: ["other:", uri])) == isMatch)
    }

    @Test(arguments: [
        ("shop.mesh", "shop.mesh", true), ("shop.mesh", "SHOP.Mesh", true), ("SHOP.mesh", "shop.mesh", true),
        ("shop.mesh", "a.shop.mesh", false), ("shop.mesh", "shop.mesh.evil", false), ("*.mesh", "shop.mesh", true),
        ("*.mesh", "a.shop.mesh", false), ("*.mesh", "mesh", false), ("*.mesh", ".mesh", false),
        ("*.mesh", "*.mesh", false), ("*.mesh", "shop.mesh.", false), ("*.mesh", "shopmesh", false),
        ("shop*", "shop.mesh", false), ("*", "mesh", false),
    ])
    func `a DNS name matches in any case, and a star label matches exactly one label`(
        pattern: String, name: String, isMatch: Bool
    ) {
        #expect(matches(.init(dns: pattern), PeerCredentials(dnsNames: ["other", name])) == isMatch)
    }

    @Test func `key, user and listener match exactly`() {
        let key = String(repeating: "0a", count: 32)
        #expect(matches(.init(keyFingerprint: key), PeerCredentials(keyFingerprint: key)))
        #expect(!matches(.init(keyFingerprint: key), PeerCredentials(keyFingerprint: "0b" + key.dropFirst(2))))
        #expect(!matches(.init(keyFingerprint: key), PeerCredentials()))
        #expect(matches(.init(userID: 0), PeerCredentials(userID: 0)))
        #expect(!matches(.init(userID: 0), PeerCredentials(userID: 1)))
        #expect(!matches(.init(userID: 0), PeerCredentials()))
        #expect(matches(.init(listener: "127.0.0.1:1"), PeerCredentials(listener: "127.0.0.1:1")))
        #expect(!matches(.init(listener: "127.0.0.1:1"), PeerCredentials(listener: "127.0.0.1:10")))
        #expect(!matches(.init(listener: "127.0.0.1:1"), PeerCredentials()))
    }

    @Test func `all properties of a matcher must match`() {
        let matcher = AccessRules.Matcher(uri: "spiffe://mesh/a", listener: "l")
        #expect(matches(matcher, PeerCredentials(uris: ["spiffe://mesh/a"], listener: "l")))
        #expect(!matches(matcher, PeerCredentials(uris: ["spiffe://mesh/a"], listener: "m")))
        #expect(!matches(matcher, PeerCredentials(uris: ["spiffe://mesh/b"], listener: "l")))
    }

    @Test func `a matcher without properties matches no peer`() {
        #expect(!matches(.init(), PeerCredentials()))
        #expect(!matches(.init(), PeerCredentials(uris: ["spiffe://mesh/a"], userID: 0, listener: "l")))
    }

    @Test func `a peer has every identity of which one matcher matches, in the order of the file`() {
        let rules = AccessRules(identities: [
            .init(name: "z", matchers: [.init(userID: 1), .init(userID: 2)]),
            .init(name: "m", matchers: []),
            .init(name: "a", matchers: [.init(userID: 2)]),
        ])
        #expect(rules.names(of: PeerCredentials(userID: 1)) == ["z"])
        #expect(rules.names(of: PeerCredentials(userID: 2)) == ["z", "a"])
        #expect(rules.names(of: PeerCredentials(userID: 3)) == [])
    }

    @Test func `the longest matching pattern decides alone`() {
        let rules = AccessRules(announce: [
            .init(pattern: "*", names: ["local"]), .init(pattern: "pay*", names: ["pay", "audit"]),
            .init(pattern: "payments*", names: ["bank"]), .init(pattern: "payments", names: ["core"]),
        ])
        func allowed(_ service: String) -> [String] {
            ["local", "pay", "audit", "bank", "core"].filter { rules.mayAnnounce(service, [$0]) }
        }
        #expect(allowed("files") == ["local"])
        #expect(allowed("") == ["local"])
        #expect(allowed("pay") == ["pay", "audit"])
        #expect(allowed("payment") == ["pay", "audit"])
        #expect(allowed("payments") == ["core"])
        #expect(allowed("payments.eu") == ["bank"])
        #expect(rules.mayAnnounce("pay", ["shop", "audit"]))
        #expect(!rules.mayAnnounce("pay", []))
    }

    @Test(arguments: [false, true]) func `the order of patterns does not matter`(isReversed: Bool) {
        let entries = [
            AccessRules.Announce(pattern: "a*", names: ["long"]), .init(pattern: "a", names: ["exact"]),
            .init(pattern: "*", names: ["all"]),
        ]
        let rules = AccessRules(announce: isReversed ? entries.reversed() : entries)
        #expect(rules.mayAnnounce("a", ["exact"]) && !rules.mayAnnounce("a", ["long", "all"]))
        #expect(rules.mayAnnounce("ab", ["long"]) && !rules.mayAnnounce("ab", ["exact", "all"]))
    }

    @Test func `of two entries with the same pattern the first one decides`() {
        let rules = AccessRules(announce: [
            .init(pattern: "a*", names: ["one"]), .init(pattern: "a*", names: ["two"]),
        ])
        #expect(rules.mayAnnounce("ab", ["one"]) && !rules.mayAnnounce("ab", ["two"]))
    }

    @Test func `a service that no pattern matches is denied, and patterns match byte by byte`() {
        let rules = AccessRules(announce: [.init(pattern: "\u{e9}", names: ["shop"]), .init(pattern: "p*", names: [])])
        #expect(rules.mayAnnounce("\u{e9}", ["shop"]))
        #expect(!rules.mayAnnounce("e\u{301}", ["shop"]))
        #expect(!rules.mayAnnounce("pay", ["shop"]))
        #expect(!rules.mayAnnounce("other", ["shop"]))
    }

    @Test func `the name any allows every peer, also one without an identity`() {
        let rules = AccessRules(announce: [.init(pattern: "a", names: ["any"])], relay: ["any"])
        #expect(rules.mayAnnounce("a", []) && rules.mayAnnounce("a", ["shop"]))
        #expect(!rules.mayAnnounce("b", []))
        #expect(rules.mayRelay([]) && rules.mayRelay(["shop"]))
        #expect(AccessRules.allows(["any"], []))
    }

    @Test func `only the listed identities may relay`() {
        let rules = AccessRules(relay: ["routers"])
        #expect(rules.mayRelay(["shop", "routers"]))
        #expect(!rules.mayRelay(["shop"]) && !rules.mayRelay([]))
        #expect(!AccessRules.allows([], ["routers"]))
    }
}
