import AstraNet
import Testing

@Suite struct JSONValueTests {
    @Test(arguments: [
        ("null", JSONValue.null), (" true\r\n", .bool(true)), ("\tfalse", .bool(false)),
        ("0", .number("0")), ("-0.5e+10", .number("-0.5e+10")), ("10E2", .number("10E2")),
        (#""""#, .string("")), (#""a\"\\\/\b\f\n\r\t""#, .string("a\"\\/\u{8}\u{C}\n\r\t")),
        (#""\u0041\u00e9\uD83D\uDE00""#, .string("Aé😀")), (#""é😀""#, .string("é😀")),
        ("[]", .array([])), ("[ 1 , [ ] ]", .array([.number("1"), .array([])])), ("{ }", .object([:])),
        (#"{"a":1,"b":{"a":[null]},"a":2}"#, .object(["a": .number("2"), "b": .object(["a": .array([.null])])])),
    ])
    func `valid JSON is decoded`(text: String, value: JSONValue) {
        #expect(JSONValue(text.utf8) == value)
    }

    @Test(arguments: [
        "", " ", "nul", "nullx", "True", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "NaN", "1 2", "'a'",
        "\"", "\"\n\"", #""\""#, #""\x""#, #""\u12""#, #""\u+123""#, #""\uD83D""#, #""\uD83Dx""#, #""\uD83D\u0041""#,
        #""\uDE00""#, "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "{1:2}", #"{"a"}"#, #"{"a":}"#,
        #"{"a":1,}"#, #"{"a":1"#, #"{"a" 1}"#, "[1}", "\u{FEFF}1",
    ])
    func `invalid JSON is refused`(text: String) {
        #expect(JSONValue(text.utf8) == nil)
    }

    @Test func `bytes that are not UTF-8 and nesting of more than 32 levels are refused`() {
        #expect(JSONValue([0x22, 0xFF, 0x22]) == nil)
        #expect(JSONValue([0x22, 0xC0, 0x80, 0x22]) == nil)
        #expect(JSONValue([0x22, 0xED, 0xA0, 0x80, 0x22]) == nil)
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(JSONValue(nested(32).utf8) != nil)
        #expect(JSONValue(nested(33).utf8) == nil)
    }

    @Test func `every truncation of a value is refused`() {
        let text = #"{"RAddr":"\u00e9\n","Abilities":["eager",-1.5e3,null,{"a":[true,{}]}]}"#
        #expect(JSONValue(text.utf8) != nil)
        for length in 0..<text.utf8.count { #expect(JSONValue(text.utf8.prefix(length)) == nil) }
    }

    @Test(arguments: ["", "127.0.0.1:5", "[fe80::1%eth0]:1", "\"\\\u{0}\u{1F}\n/é😀"])
    func `a quoted string decodes to the original text`(text: String) {
        #expect(JSONValue(JSONValue.quoted(text).utf8) == .string(text))
    }
}
