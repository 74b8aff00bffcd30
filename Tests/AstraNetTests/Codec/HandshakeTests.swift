import AstraNet
import NIOCore
import Testing

@Suite struct HandshakeTests {
    @Test func `a handshake without abilities has the bytes that Go writes`() {
        #expect(
            Handshake(remoteAddress: "127.0.0.1:5997").encoded() == ByteBuffer(string: #"{"RAddr":"127.0.0.1:5997"}"#))
    }

    @Test func `abilities are encoded under a key that Go ignores`() throws {
        let handshake = Handshake(
            remoteAddress: "[::1]:1", abilities: Set(Handshake.Ability.allCases), maximumPayload: 262_144)
        let json = #"{"Abilities":["eager","identity","push","refuse","window"],"MaxOp":262144,"RAddr":"[::1]:1"}"#
        #expect(handshake.encoded() == ByteBuffer(string: json))
        #expect(try Handshake(decoding: handshake.encoded()) == handshake)
    }

    @Test func `a name is sent and a name that is not printable is ignored`() throws {
        let named = Handshake(remoteAddress: "x", name: "host-7.eu_1")
        #expect(named.encoded() == ByteBuffer(string: #"{"Name":"host-7.eu_1","RAddr":"x"}"#))
        #expect(try Handshake(decoding: named.encoded()) == named)
        let long = String(repeating: "x", count: 64)
        for name in ["", "a b", "a\\nb", "\\u001b[m", "é", long] {
            let json = #"{"Name":"\#(name)","RAddr":"x"}"#
            #expect(try Handshake(decoding: ByteBuffer(string: json)) == Handshake(remoteAddress: "x"), "\(name)")
        }
        let wrong = ByteBuffer(string: #"{"Name":7}"#)
        #expect(throws: AstraNetError.self) { try Handshake(decoding: wrong) }
    }

    @Test(arguments: [
        (#"{"RAddr":"127.0.0.1:5997"}"#, Handshake(remoteAddress: "127.0.0.1:5997")),
        (#"{}"#, Handshake(remoteAddress: "")),
        (#"{"RAddr":null}"#, Handshake(remoteAddress: "")),
        (
            #" { "Later" : {"a":[1,2,{}]}, "RAddr" : "x" , "More":-1e9 } "#, Handshake(remoteAddress: "x")
        ),
        (
            #"{"RAddr":"a","Abilities":["refuse","fly","refuse"]}"#,
            Handshake(remoteAddress: "a", abilities: [.refuse])
        ),
        (#"{"RAddr":"a","Abilities":[]}"#, Handshake(remoteAddress: "a")),
        // A value below the minimum of 65,536 counts as the minimum.
        (#"{"RAddr":"a","MaxOp":100}"#, Handshake(remoteAddress: "a")),
        (#"{"RAddr":"a","MaxOp":-1}"#, Handshake(remoteAddress: "a")),
        (#"{"RAddr":"a","Abilities":null}"#, Handshake(remoteAddress: "a")),
    ])
    func `unknown keys and abilities are ignored`(json: String, handshake: Handshake) throws {
        #expect(try Handshake(decoding: ByteBuffer(string: json)) == handshake)
    }

    @Test(arguments: [
        "", " ", "hello", "[]", "1", "null", "\"RAddr\"", "{", #"{"RAddr":"a""#, #"{"RAddr":1}"#, #"{"RAddr":"a"}}"#,
        #"{"Abilities":"refuse"}"#, #"{"Abilities":[1]}"#, "{\"RAddr\":\"\u{0}\"}",
    ])
    func `a payload that is not a handshake object is a protocol violation`(json: String) {
        let error = #expect(throws: AstraNetError.self) { try Handshake(decoding: ByteBuffer(string: json)) }
        #expect(error?.code == .protocolViolation)
    }

    @Test func `a handshake that is not UTF-8 is a protocol violation`() {
        let bytes = ByteBuffer(bytes: Array(#"{"RAddr":""#.utf8) + [0xFF, 0xFE] + Array(#""}"#.utf8))
        let error = #expect(throws: AstraNetError.self) { try Handshake(decoding: bytes) }
        #expect(error?.code == .protocolViolation)
    }

    @Test func `nesting deeper than the limit is refused`() {
        let bytes = ByteBuffer(string: #"{"x":"# + String(repeating: "[", count: 60_000))
        #expect(throws: AstraNetError.self) { try Handshake(decoding: bytes) }
    }
}
