import AstraNet
import Testing

@Suite struct HostIDTests {
    @Test(arguments: [
        (0x1234_5678_1234_5678, "EjRWeBI0VngA"),
        (0, "AAAAAAAAAAAA"),
        (1, "AAAAAAAAAAEA"),
        (UInt64(Int64.max), "f_________8A"),
        (.max, "__________8A"),
        // From recordings: the name of a Go node's ipc service contains the text of its host id.
        (0x64c0_010c_dc22_f0bb, "ZMABDNwi8LsA"),
        (0x2475_f2c0_6609_468e, "JHXywGYJRo4A"),
        (0xFBEF_BEFB_EFBE_FBEF, "----------8A"),
    ])
    func `a host id is printed as Go prints it and parsed back`(value: UInt64, text: String) {
        #expect(HostID(rawValue: value).description == text)
        #expect(HostID(text) == HostID(rawValue: value))
    }

    @Test(arguments: [
        "", "EjRWeBI0Vng", "EjRWeBI0VngAA", "EjRWeBI0VngB", "EjRWeBI0VnhA", "EjRWeBI0Vn+A", "EjRWeBI0Vn=A",
        "ÄjRWeBI0VngA",
        " EjRWeBI0Vng", "AAAAAAAAAAE_",
    ])
    func `text that is not a host id is not parsed`(text: String) {
        #expect(HostID(text) == nil)
    }

    @Test func `every bit survives printing and parsing`() {
        for bit in 0..<64 {
            let host = HostID(rawValue: 1 << UInt64(bit))
            #expect(HostID(host.description) == host)
            let inverse = HostID(rawValue: ~host.rawValue)
            #expect(HostID(inverse.description) == inverse)
        }
    }

    @Test func `random host ids are distinct, have 63 bits and are not 0`() {
        let hosts = (0..<1_000).map { _ in HostID.random() }
        #expect(Set(hosts).count == hosts.count)
        #expect(hosts.allSatisfy { $0.rawValue > 0 && $0.rawValue <= UInt64(Int64.max) })
    }
}

@Suite struct AddressTests {
    @Test(arguments: [("EjRWeBI0VngA:16777217", 16_777_217), ("EjRWeBI0VngA:0", 0), ("EjRWeBI0VngA:4294967295", .max)])
    func `an address is printed as Go prints it and parsed back`(text: String, port: UInt32) {
        let address = Address(host: HostID(rawValue: 0x1234_5678_1234_5678), port: port)
        #expect(address.description == text)
        #expect(Address(text) == address)
    }

    @Test(arguments: [
        "", ":", "EjRWeBI0VngA", "EjRWeBI0VngA:", ":1", "EjRWeBI0VngA:1:2", "EjRWeBI0VngA:-1",
        "EjRWeBI0VngA:4294967296",
        "EjRWeBI0VngA: 1", "EjRWeBI0VngA:0x1", "EjRWeBI0VngA:+1", "EjRWeBI0VngA:01", "EjRWeBI0Vng:1",
    ])
    func `text that is not an address is not parsed`(text: String) {
        #expect(Address(text) == nil)
    }
}
