import AstraNet
import Testing

@Suite struct HostPortTests {
    @Test(arguments: [
        ("127.0.0.1:5555", "127.0.0.1", 5_555), ("[::1]:1", "::1", 1), ("a.b:65535", "a.b", 65_535), ("h:0", "h", 0),
    ])
    func `a host and port is parsed and printed`(text: String, host: String, port: Int) {
        #expect(HostPort(text) == HostPort(host: host, port: port))
        #expect(HostPort(host: host, port: port).description == text)
    }

    @Test(arguments: [
        "", ":", "host", "host:", ":5", "host:65536", "host:-1", "host:+5", "host: 5", "host:5x", "::1:5", "[::1:5",
        "::1]:5", "[]:5", "[::1]", "host:99999999999999999999", String(repeating: "h", count: 300) + ":5",
    ])
    func `text that is not a host and port is not parsed`(text: String) {
        #expect(HostPort(text) == nil)
    }
}
