import AstraNet
import Chanserv
import ChanservHost
import HostConfiguration
import Testing

@Suite struct AccessConfigurationTests {
    private func parse(_ text: String) throws -> HostConfiguration {
        try HostConfiguration.parse(text, file: "c.yaml", folder: "/etc")
    }

    @Test func `the section access becomes the rules of the node`() throws {
        let digest = String(repeating: "0a", count: 32)
        let access = try #require(
            try parse(
                """
                node: {listen: [127.0.0.1:5555, "unix:m.sock"]}
                access:
                  identities:
                    shop: [{uri: "spiffe://mesh/shop/*", listen: 127.0.0.1:5555}, {dns: "*.shop.mesh"}]
                    key: {sha256: \(digest)}
                    batch: {uid: 1000, listen: "unix:m.sock"}
                  announce: [{vaddr: "pay*", by: [shop]}, {vaddr: free, by: any}]
                  relay: [key]
                """
            ).access)
        let rules = AccessRules(access)
        let tcp = "127.0.0.1:5555"
        #expect(rules.names(of: PeerCredentials(uris: ["spiffe://mesh/shop/1"], listener: tcp)) == ["shop"])
        #expect(rules.names(of: PeerCredentials(uris: ["spiffe://mesh/shop/1"])) == [])
        #expect(rules.names(of: PeerCredentials(dnsNames: ["a.shop.mesh"], keyFingerprint: digest)) == ["shop", "key"])
        #expect(rules.names(of: PeerCredentials(userID: 1000, listener: "unix:/etc/m.sock")) == ["batch"])
        #expect(rules.names(of: PeerCredentials(userID: 1000, listener: tcp)) == [])
        #expect(rules.mayAnnounce("payments", ["shop"]) && !rules.mayAnnounce("payments", ["key"]))
        // `any` of the file is the name that stands for every peer in the rules.
        #expect(rules.mayAnnounce("free", []))
        #expect(rules.mayRelay(["key"]) && !rules.mayRelay(["shop"]))
    }

    @Test func `the access of a route becomes the quota of its callers`() throws {
        func quota(_ access: String) throws -> RequestQuota? {
            let configuration = try parse(
                "plugins: {e: {path: e.so}}\nroutes: [{vaddr: e, plugin: e, access: \(access)}]")
            return RequestQuota(configuration.routes[0].options.access)
        }
        #expect(try quota("{}") == nil)
        #expect(try quota("{concurrent: 3}") == RequestQuota(concurrent: 3))
        #expect(
            try quota("{rate: 100/s, burst: 200, concurrent: 50}")
                == RequestQuota(rate: .init(requests: 100, per: .seconds(1), burst: 200), concurrent: 50))
        #expect(
            try quota("{rate: 61/m}") == RequestQuota(rate: .init(requests: 61, per: .seconds(60), burst: 2)))
        #expect(
            try quota("{rate: 1/h}") == RequestQuota(rate: .init(requests: 1, per: .seconds(3_600), burst: 1)))
    }
}
