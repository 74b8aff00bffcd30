import HostConfiguration
import Testing

/// Reads `text` as YAML and returns the tree in a short notation, and the problems.
private func read(_ text: String, limits: YAMLLimits = YAMLLimits()) -> (tree: String?, problems: [String]) {
    let (root, problems) = YAMLReader.read(Array(text.utf8), file: "f.yaml", limits: limits)
    return (root.map(notation), problems.map(\.description))
}

/// The short notation of a node: its value, `@`, line and column. Keys have their location too.
private func notation(_ node: YAMLNode) -> String {
    let place = "@\(node.location.line):\(node.location.column)"
    switch node.content {
    case .scalar(let scalar): return "\(scalar.value == .string ? "'\(scalar.text)'" : "\(scalar.text)")\(place)"
    case .list(let elements): return "[\(elements.map(notation).joined(separator: " "))]\(place)"
    case .mapping(let entries):
        let inner = entries.map { "\($0.key)@\($0.keyLocation.line):\($0.keyLocation.column)=\(notation($0.value))" }
        return "{\(inner.joined(separator: " "))}\(place)"
    case .unusable: return "?\(place)"
    }
}

@Suite struct YAMLReaderTests {
    @Test func `every key and value has its location`() {
        let text = """
            # a comment
            node:
              listen: [a:1, 'b']
            "ключ": é
            """
        let (tree, problems) = read(text)
        #expect(problems == [])
        #expect(tree == "{node@2:1={listen@3:3=['a:1'@3:12 'b'@3:17]@3:11}@3:3 ключ@4:1='é'@4:9}@2:1")
    }

    @Test(arguments: ["", "\n\n", "# only a comment\n"])
    func `an empty file has no document`(text: String) {
        let (tree, problems) = read(text)
        #expect(tree == nil)
        #expect(problems == [])
    }

    @Test(arguments: [
        ("a: [1, 2", "f.yaml:2:1: did not find expected ',' or ']' (while parsing a flow sequence that begins at 1:4)"),
        ("a:\n\tb: 1", "f.yaml:2:1: YAML does not allow tabs for indentation: use spaces"),
        ("a:\n  b: 1\n\tc: 2", "f.yaml:3:1: YAML does not allow tabs for indentation: use spaces"),
        ("a: |\n\tx", "f.yaml:2:1: YAML does not allow tabs for indentation: use spaces"),
        ("a: @b", "f.yaml:1:4: found character that cannot start any token (while scanning for the next token)"),
        ("a: 'x", "f.yaml:1:6: found unexpected end of stream (while scanning a quoted scalar that begins at 1:4)"),
        ("a: 1\n b: 2", "f.yaml:2:3: mapping values are not allowed in this context"),
        ("a: \"\\q\"", "f.yaml:1:5: found unknown escape character (while parsing a quoted scalar that begins at 1:4)"),
    ])
    func `a syntax error is reported with its location`(text: String, message: String) {
        #expect(read(text).problems == [message])
    }

    @Test func `invalid UTF-8 is reported with its location`() {
        let bytes = Array("a: é\nb: é".utf8) + [0xFF]
        let (_, problems) = YAMLReader.read(bytes, file: "f.yaml")
        #expect(problems.map(\.description) == ["f.yaml:2:5: invalid leading UTF-8 octet"])
    }

    @Test func `every duplicate key is reported`() {
        let (tree, problems) = read("a: 1\nb: {c: 1, d: 2, \"c\": 3}\na: 4\n")
        #expect(
            problems == [
                "f.yaml:2:17: duplicate key 'c' (first: line 2, column 5)",
                "f.yaml:3:1: duplicate key 'a' (first: line 1, column 1)",
            ])
        #expect(tree == "{a@1:1=1@1:4 b@2:1={c@2:5=1@2:8 d@2:11=2@2:14}@2:4}@1:1")
    }

    @Test func `a second document is refused`() {
        #expect(
            read("a: 1\n---\nb: 2\n").problems
                == ["f.yaml:2:1: a second document begins here; a configuration is one document"])
    }

    @Test func `a key that is not plain text is refused`() {
        #expect(
            read("? [1]\n: 2\n? {a: 1}\n: 3\nb: 4\n").problems == [
                "f.yaml:1:3: a key must be plain text, found a list",
                "f.yaml:3:3: a key must be plain text, found a mapping",
            ])
        #expect(read("1: a\nnull: b\n").tree == "{1@1:1='a'@1:4 null@2:1='b'@2:7}@1:1")
    }

    @Test func `merge keys are refused`() {
        let (tree, problems) = read("a: &a {b: 1}\nc:\n  <<: *a\n  d: 2\n'<<': 3\n")
        #expect(
            problems == ["f.yaml:3:3: merge keys (<<) are not supported; name the whole value with an alias"])
        #expect(tree == "{a@1:1={b@1:8=1@1:11}@1:4 c@2:1={d@4:3=2@4:6}@3:3 <<@5:1=3@5:7}@1:1")
    }

    @Test func `an alias is replaced by the value of its anchor`() {
        let (tree, problems) = read("a: &x [1]\nb: *x\nc: {d: *x}\n")
        #expect(problems == [])
        #expect(tree == "{a@1:1=[1@1:8]@1:4 b@2:1=[1@1:8]@1:4 c@3:1={d@3:5=[1@1:8]@1:4}@3:4}@1:1")
    }

    @Test func `an alias without an anchor or inside of its own value is refused`() {
        #expect(
            read("a: *x\nb: &y [*y]\nc: &x 1\n").problems == [
                "f.yaml:1:4: undefined alias *x: no anchor &x before it",
                "f.yaml:2:8: the alias *y is inside the value of its own anchor",
            ])
    }

    @Test func `the expansion of nested aliases is limited`() {
        // Ten aliases in each of nine levels: a billion values.
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...9 {
            let aliases = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(aliases)]\n"
        }
        let problems = read(text).problems
        #expect(problems.count == 1)
        #expect(problems.first?.hasSuffix("the aliases expand the file to more than 32MiB") == true)
    }

    @Test func `the expansion of aliases to long texts is limited`() {
        let text =
            "a: &a \(String(repeating: "x", count: 1_000))\nb: [\(Array(repeating: "*a", count: 100).joined(separator: ", "))]\n"
        var limits = YAMLLimits()
        limits.expandedWeight = 50_000
        #expect(read(text).problems == [])
        #expect(read(text, limits: limits).problems.map { $0.hasSuffix("more than 50kB") } == [true])
    }

    @Test func `a file without aliases never exceeds the expansion limit`() {
        // The most values per byte that a file can have: each value takes two bytes.
        let text = "[" + String(repeating: "1,", count: YAMLLimits().fileSize / 2 - 1) + "]"
        #expect(read(text).problems == [])
    }

    @Test func `the nesting depth is limited, with aliases followed`() {
        func nested(_ levels: Int, _ inner: String) -> String {
            String(repeating: "[", count: levels) + inner + String(repeating: "]", count: levels)
        }
        #expect(read(nested(64, "1")).problems == [])
        #expect(read(nested(65, "1")).problems == ["f.yaml:1:65: more than 64 levels of lists and mappings"])
        #expect(read("- &a \(nested(32, "1"))\n- \(nested(31, "*a"))").problems == [])
        #expect(
            read("- &a \(nested(32, "1"))\n- \(nested(32, "*a"))").problems
                == ["f.yaml:2:35: more than 64 levels of lists and mappings, aliases followed"])
        #expect(read(String(repeating: "[", count: 500_000)).problems.count == 1)
    }

    @Test func `a file above the size limit is refused`() {
        let text = String(repeating: "#", count: (1 << 20) + 1)
        #expect(read(text).problems == ["f.yaml: the file is larger than 1MiB"])
        #expect(read(String(text.dropLast())).problems == [])
    }

    @Test func `only the tags of the core schema are accepted`() {
        #expect(read("[!!str 1, ! 2, !!int 3, !!float 4, !!bool true, !!null '', !!seq [], !!map {}]").problems == [])
        #expect(read("[!!str 1, !!int 2]").tree == "['1'@1:2 2@1:11]@1:1")
        #expect(
            read("[!!int x, !foo 1, !!binary aa, !!map []]").problems == [
                "f.yaml:1:2: the tag 'tag:yaml.org,2002:int' does not fit here",
                "f.yaml:1:11: the tag '!foo' does not fit here",
                "f.yaml:1:19: the tag 'tag:yaml.org,2002:binary' does not fit here",
                "f.yaml:1:32: the tag 'tag:yaml.org,2002:map' does not fit here",
            ])
    }
}

@Suite struct YAMLScalarTests {
    @Test(arguments: [
        ("", YAMLScalar.Value.null), ("~", .null), ("null", .null), ("NULL", .null), ("nUll", .string),
        ("true", .boolean(true)), ("False", .boolean(false)), ("tRUE", .string),
        ("yes", .string), ("on", .string), ("off", .string), ("no", .string),
        ("0", .integer("0")), ("-0", .integer("0")), ("+12", .integer("12")), ("-012", .integer("-12")),
        ("0x1F", .integer("31")), ("0o17", .integer("15")), ("0x", .string), ("0o8", .string), ("-0x1", .string),
        ("0x+1", .string), ("0xFFFFFFFFFFFFFFFF", .integer("18446744073709551615")), ("0x1FFFFFFFFFFFFFFFF", .string),
        ("123456789012345678901234567890", .integer("123456789012345678901234567890")),
        ("1.5", .number(1.5)), ("-.5", .number(-0.5)), ("1.", .number(1)), ("1e3", .number(1_000)),
        ("+1.25E-2", .number(0.0125)), (".inf", .number(.infinity)), ("-.INF", .number(-.infinity)),
        ("1e999", .number(.infinity)), (".", .string), ("-", .string), ("+", .string), ("1e", .string),
        ("1e+", .string),
        ("1_000", .string), ("0b1", .string), ("nan", .string), ("inf", .string), ("0x1p3", .string),
        ("1.2.3", .string),
        ("2024-01-01", .string), ("12:30", .string), ("+.inf", .number(.infinity)), (".e1", .string),
    ])
    func `plain text is resolved by the core schema`(text: String, value: YAMLScalar.Value) {
        #expect(YAMLScalar(plain: text).value == value)
        #expect(YAMLScalar(string: text).value == .string)
    }

    @Test(arguments: ["a: 1\n", "---\na: 1\n", "# comment\r\na: 1\r\n"])
    func `a byte order mark at the beginning is ignored`(text: String) throws {
        let read = YAMLReader.read([0xEF, 0xBB, 0xBF] + Array(text.utf8), file: "f.yaml")
        #expect(read.problems.isEmpty, "\(read.problems)")
        #expect(read.root != nil)
    }

    @Test func `a file in UTF-16 is refused with the way out`() {
        let read = YAMLReader.read([0xFF, 0xFE, 0x61, 0x00], file: "f.yaml")
        #expect(read.problems.map(\.description) == ["f.yaml: the file is in UTF-16; save it as UTF-8"])
    }

    @Test func `the plain text .nan is resolved to not a number`() {
        guard case .number(let value) = YAMLScalar(plain: ".nan").value else {
            Issue.record(".nan is no number")
            return
        }
        #expect(value.isNaN)
    }
}
