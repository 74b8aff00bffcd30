import AstraNet
import Foundation
import SwiftASN1
import TestSupport
import Testing
import X509

@testable import AstraNetTLS

/// Names of certificates and of servers.
@Suite(.timeLimit(.minutes(2))) struct CertificateNamesTests {
    private func names(_ dnsNames: [String] = [], addresses: [[UInt8]] = []) throws -> CertificateNames {
        try CertificateNames(
            TestAuthority().issue(TestLeaf(dnsNames: dnsNames, addresses: addresses)).certificate)
    }

    @Test(arguments: [
        ("a.mesh", "a.mesh", true), ("A.Mesh", "a.mesh", true), ("a.mesh", "A.MESH.", true),
        ("a.mesh", "b.mesh", false),
        ("*.mesh.org", "a.mesh.org", true), ("*.mesh.org", "mesh.org", false), ("*.mesh.org", "a.b.mesh.org", false),
        ("*.org", "mesh.org", false), ("*", "mesh", false), ("a*.mesh.org", "ab.mesh.org", false),
        ("a.*.org", "a.mesh.org", false), ("*.*.org", "a.mesh.org", false), ("127.0.0.1", "127.0.0.1", false),
    ])
    func `a DNS name matches as in RFC 9525`(pattern: String, name: String, isMatch: Bool) throws {
        let identity = try #require(ServerIdentity(name))
        #expect(identity.matches(try names([pattern])) == isMatch)
    }

    @Test(arguments: [("127.0.0.1", true), ("127.0.0.2", false), ("::1", true), ("0:0:0:0:0:0:0:1", true)])
    func `an address matches an address only`(name: String, isMatch: Bool) throws {
        let identity = try #require(ServerIdentity(name))
        let loopback = [UInt8](repeating: 0, count: 15) + [1]
        #expect(identity.matches(try names(addresses: [[127, 0, 0, 1], loopback])) == isMatch)
        #expect(identity.serverNameIndication == nil)
    }

    @Test(arguments: ["", ".", "a..b", "-a", "a-", "a b", "*.mesh.org", "a:1", "é", String(repeating: "a", count: 64)])
    func `text that is no name is refused`(text: String) {
        #expect(ServerIdentity(text) == nil)
    }

    @Test func `the limits of names are inclusive`() throws {
        let long = "spiffe://" + String(repeating: "x", count: CertificateNames.maximumLength - 9)
        let most = [long] + (1..<CertificateNames.maximumCount).map { "a:\($0)" }
        let authority = try TestAuthority()
        #expect(try CertificateNames(authority.issue(TestLeaf(uris: most)).certificate).uris == most)
        #expect(throws: CertificateNames.Refusal(reason: "it has more than 64 names")) {
            try CertificateNames(authority.issue(TestLeaf(uris: most + ["b:"])).certificate)
        }
        #expect(throws: CertificateNames.Refusal(reason: "it has a name of more than 512 bytes")) {
            try CertificateNames(authority.issue(TestLeaf(uris: [long + "x"])).certificate)
        }
    }

    @Test(arguments: ["", "spiffe://mesh/a b", "spiffe://mesh/a\u{0}", "spiffe://mesh/\n", "spiffe://mesh/\u{7F}"])
    func `names with other characters than visible ASCII are refused`(uri: String) throws {
        let certificate = try TestAuthority().issue(TestLeaf(uris: [uri])).certificate
        #expect(throws: CertificateNames.Refusal(reason: "it has a name with characters other than visible ASCII")) {
            try CertificateNames(certificate)
        }
    }

    @Test func `names in messages are bounded and have no control characters`() throws {
        let name = try DistinguishedName { CommonName("a\n\u{1B}[2J\u{202E}b" + String(repeating: "x", count: 300)) }
        #expect(name.printed.hasPrefix("CN=a"))
        #expect(name.printed.contains("?[2J?b"))
        #expect(name.printed.unicodeScalars.count == DistinguishedName.maximumLength + 1)
        let names = try names((1...7).map { "host-\($0)" })
        #expect(names.hostText == "'host-1', 'host-2', 'host-3', 'host-4', 'host-5' and 2 more")
    }

    /// The number of executions is `CHANSERV_TEST_FUZZ` (default 2,000).
    @Test(.timeLimit(.minutes(60))) func `damaged certificates never crash the reader or break its limits`() throws {
        let count = ProcessInfo.processInfo.environment["CHANSERV_TEST_FUZZ"].flatMap(Int.init) ?? 2_000
        var fuzz = try CertificateFuzz(seed: .random(in: 0...UInt64.max))
        for _ in 0..<count {
            let problem = fuzz.step()
            #expect(problem == nil, "seed \(fuzz.seed), execution \(fuzz.executions)")
            if problem != nil { return }
        }
        // Else the mutations would be so coarse that they reach only the outermost parser.
        #expect(fuzz.decoded > count / 20, "\(fuzz.decoded) of \(count) decoded")
    }
}

/// Changes the bytes of real certificates and reads them as a handshake does.
struct CertificateFuzz {
    let seed: UInt64
    private(set) var executions = 0
    /// The number of changed certificates whose outer structure could still be decoded.
    private(set) var decoded = 0
    private var generator: SplitMix64
    private let originals: [[UInt8]]

    init(seed: UInt64) throws {
        self.seed = seed
        generator = SplitMix64(state: seed)
        let authority = try TestAuthority()
        let leaves = [
            TestLeaf(
                uris: ["spiffe://mesh/host/router-1"], dnsNames: ["router-1.mesh", "*.mesh.org"],
                addresses: [[127, 0, 0, 1], [UInt8](repeating: 1, count: 16)]),
            TestLeaf(uris: (0..<64).map { "a:\($0)" }),
            TestLeaf(),
        ]
        originals = try leaves.map { leaf in
            var serializer = DER.Serializer()
            try serializer.serialize(authority.issue(leaf).certificate)
            return serializer.serializedBytes
        }
    }

    private mutating func random(below bound: Int) -> Int {
        Int(generator.next() % UInt64(bound))
    }

    private mutating func mutated() -> [UInt8] {
        var bytes = originals[random(below: originals.count)]
        for _ in 0...random(below: 4) {
            guard !bytes.isEmpty else { break }
            // The extensions are in the second half.
            let place =
                random(below: 2) == 0
                ? random(below: bytes.count) : bytes.count - 1 - random(below: bytes.count / 2 + 1)
            switch random(below: 8) {
            case 0: bytes[place] ^= 1 << UInt8(random(below: 8))
            case 1: bytes[place] = UInt8(random(below: 256))
            case 2: bytes[place] = [0, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF][random(below: 7)]
            case 3: bytes.remove(at: place)
            case 4: bytes.insert(UInt8(random(below: 256)), at: place)
            case 5: bytes.removeSubrange(place..<min(bytes.count, place + random(below: 16)))
            case 6: bytes[place] &+= 1
            default: bytes[place] = bytes[random(below: bytes.count)]
            }
        }
        return bytes
    }

    /// Reads one changed certificate. Returns the violated limit, or `nil`.
    mutating func step() -> String? {
        executions += 1
        let bytes = mutated()
        let certificate: Certificate
        do {
            certificate = try Certificate(derEncoded: bytes)
        } catch {
            return nil
        }
        decoded += 1
        _ = CertificateSummary(certificate, file: "f", line: 1)
        do {
            let names = try CertificateNames(certificate)
            let credentials = PeerCredentials(names, of: certificate)
            guard credentials.uris == names.uris, credentials.dnsNames == names.dnsNames else { return "not the same" }
            let texts = names.uris + names.dnsNames
            guard texts.count + names.addresses.count <= CertificateNames.maximumCount else { return "too many" }
            guard texts.allSatisfy({ (1...CertificateNames.maximumLength).contains($0.utf8.count) }) else {
                return "too long"
            }
            guard texts.allSatisfy({ $0.utf8.allSatisfy { (0x21...0x7E).contains($0) } }) else { return "not visible" }
            _ = ServerIdentity.dns("router-1.mesh").matches(names)
            return credentials.keyFingerprint?.utf8.count == 64 ? nil : "no fingerprint"
        } catch {
            return nil
        }
    }
}
