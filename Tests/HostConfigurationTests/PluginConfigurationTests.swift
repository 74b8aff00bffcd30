import HostConfiguration
import Testing

@Suite struct PluginConfigurationTests {
    private let configuration: PluginConfiguration

    init() throws {
        configuration = try PluginConfiguration(
            yaml: """
                text: hello
                quoted: "5"
                empty: ""
                number: 5
                big: 9223372036854775808
                fraction: 0.5
                yes: true
                wait: 1m30s
                size: 64KiB
                nothing:
                file: logs/today
                absolute: /var/log
                limits:
                  - size: 1
                  - size: 2
                      # the second
                    deep: {a: x}
                """, file: "p.yaml", folder: "/etc")
    }

    /// The description of the error that `body` throws.
    private func message(_ body: () throws(ConfigurationError) -> Void) -> String? {
        do {
            try body()
            return nil
        } catch {
            return error.description
        }
    }

    @Test func `each value is read with its type`() throws {
        #expect(try configuration.string(at: "text") == "hello")
        #expect(try configuration.string(at: "quoted") == "5")
        #expect(try configuration.string(at: "empty") == "")
        #expect(try configuration.integer(at: "number") == 5)
        #expect(try configuration.number(at: "number") == 5)
        #expect(try configuration.number(at: "big") == 9_223_372_036_854_775_808)
        #expect(try configuration.number(at: "fraction") == 0.5)
        #expect(try configuration.boolean(at: "yes") == true)
        #expect(try configuration.duration(at: "wait") == .seconds(90))
        #expect(try configuration.size(at: "size") == 65_536)
        #expect(try configuration.size(at: "number") == 5)
        #expect(try configuration.count(at: "limits") == 2)
    }

    @Test func `paths lead through lists and mappings`() throws {
        #expect(try configuration.integer(at: "limits.0.size") == 1)
        #expect(try configuration.string(at: "limits.1.deep.a") == "x")
    }

    @Test(arguments: [
        "absent", "nothing", "nothing.below", "limits.2", "limits.0.deep", "limits.0.deep.a", "Text", ".", "text.",
    ])
    func `absent values and null are read as nil`(path: String) throws {
        guard path != "text." else {
            #expect(
                message { () throws(ConfigurationError) in _ = try configuration.string(at: path) }
                    == "p.yaml:1:7: expected a mapping or a list on the way to 'text.', found the text 'hello'")
            return
        }
        #expect(try configuration.string(at: path) == nil)
        #expect(try configuration.integer(at: path) == nil)
        #expect(try configuration.number(at: path) == nil)
        #expect(try configuration.boolean(at: path) == nil)
        #expect(try configuration.duration(at: path) == nil)
        #expect(try configuration.size(at: path) == nil)
        #expect(try configuration.count(at: path) == nil)
        #expect(try configuration.path(at: path) == nil)
    }

    @Test func `a value of another type is an error with its location`() {
        typealias Getter = (PluginConfiguration, String) throws(ConfigurationError) -> Void
        let cases: [(String, Getter, String)] = [
            (
                "number", { (c, p) throws(ConfigurationError) in _ = try c.string(at: p) },
                "4:9: expected text, found the integer 5; put it in quotes"
            ),
            (
                "limits", { (c, p) throws(ConfigurationError) in _ = try c.string(at: p) },
                "14:3: expected text, found a list"
            ),
            (
                "quoted", { (c, p) throws(ConfigurationError) in _ = try c.integer(at: p) },
                "2:9: expected an integer, found the text '5'"
            ),
            (
                "fraction", { (c, p) throws(ConfigurationError) in _ = try c.integer(at: p) },
                "6:11: expected an integer, found the number 0.5"
            ),
            (
                "big", { (c, p) throws(ConfigurationError) in _ = try c.integer(at: p) },
                "5:6: '9223372036854775808' does not fit a 64-bit integer"
            ),
            (
                "yes", { (c, p) throws(ConfigurationError) in _ = try c.number(at: p) },
                "7:6: expected a number, found the boolean true"
            ),
            (
                "number", { (c, p) throws(ConfigurationError) in _ = try c.boolean(at: p) },
                "4:9: expected true or false, found the integer 5"
            ),
            (
                "number", { (c, p) throws(ConfigurationError) in _ = try c.duration(at: p) },
                "4:9: expected a duration such as 30s: '5' has no unit (h, m, s, ms, us or ns)"
            ),
            (
                "text", { (c, p) throws(ConfigurationError) in _ = try c.size(at: p) },
                "1:7: expected a size such as 64KiB: 'hello' does not begin with a number"
            ),
            (
                "text", { (c, p) throws(ConfigurationError) in _ = try c.count(at: p) },
                "1:7: expected a list, found the text 'hello'"
            ),
            (
                "text.below", { (c, p) throws(ConfigurationError) in _ = try c.string(at: p) },
                "1:7: expected a mapping or a list on the way to 'text.below', found the text 'hello'"
            ),
            (
                "limits.size", { (c, p) throws(ConfigurationError) in _ = try c.string(at: p) },
                "14:3: expected a mapping with the key 'size', found a list"
            ),
            (
                "empty", { (c, p) throws(ConfigurationError) in _ = try c.path(at: p) },
                "3:8: expected a path, found the text ''"
            ),
        ]
        for (path, getter, expected) in cases {
            #expect(
                message { () throws(ConfigurationError) in try getter(configuration, path) } == "p.yaml:" + expected,
                "\(path)")
        }
    }

    @Test func `relative paths are resolved against the folder of the file`() throws {
        #expect(try configuration.path(at: "file") == "/etc/logs/today")
        #expect(try configuration.path(at: "absolute") == "/var/log")
    }

    @Test func `unknown keys are refused`() throws {
        let small = try PluginConfiguration(yaml: "{root: /, folow: true, unit: lines, x: 1}", file: "p.yaml")
        #expect(
            message { () throws(ConfigurationError) in try small.only(known: ["root", "folow", "unit", "x", "more"]) }
                == nil)
        #expect(
            message { () throws(ConfigurationError) in try small.only(known: ["root", "follow", "unit", "x"]) }
                == "p.yaml:1:11: unknown key 'folow'; did you mean 'follow'?")
        #expect(
            message { () throws(ConfigurationError) in try small.only(known: ["root", "follow", "unit"]) }
                == "p.yaml:1:11: unknown key 'folow'; did you mean 'follow'? (unknown too: 'x')")
        #expect(
            message { () throws(ConfigurationError) in try small.only(known: []) }
                == "p.yaml:1:2: unknown key 'root' (unknown too: 'folow', 'unit', 'x')")
    }

    @Test func `an unknown key in the config of a route is reported at its location in the route`() throws {
        let text = """
            plugins: {e: {path: a, config: {root: /}}}
            routes: [{vaddr: a, plugin: e, config: {rot: x}}]
            """
        let route = try #require(try HostConfiguration.parse(text, file: "c.yaml", folder: "/").routes.first)
        #expect(
            message { () throws(ConfigurationError) in try route.configuration.only(known: ["root"]) }
                == "c.yaml:2:41: unknown key 'rot'; did you mean 'root'?")
    }

    @Test func `the whole configuration is available as canonical JSON`() throws {
        let text = #"""
            z: 1
            a: [null, ~, true, False, 0x10, 0o17, -0, +5, 1.50, 1e3, 1e300, 12345678901234567890123]
            text: "\"\\/\n\r\t\b\x00\u001f é 😀"
            '1': yes
            B: {}
            e: []
            quoted: ["1", 'null', "", !!str 2]
            """#
        let json =
            #"{"1":"yes","B":{},"a":[null,null,true,false,16,15,0,5,1.5,1000.0,1e+300,12345678901234567890123],"e":[],"#
            + #""quoted":["1","null","","2"],"text":"\"\\/\n\r\t\u0008\u0000\u001f é 😀","z":1}"#
        #expect(try PluginConfiguration(yaml: text).json == json)
        #expect(try PluginConfiguration(yaml: "").json == "{}")
        // JSON is YAML: the output reads back as the same configuration.
        #expect(try PluginConfiguration(yaml: json).json == json)
    }

    @Test func `configurations are equal by their values and not by their locations`() throws {
        let one = try PluginConfiguration(yaml: "a: 1\nb: {c: x, d: [1]}")
        #expect(one == (try PluginConfiguration(yaml: "b:\n  d: [ 0x1 ]\n  c: 'x'\n\na: +1", file: "other")))
        #expect(one != (try PluginConfiguration(yaml: "a: '1'\nb: {c: x, d: [1]}")))
        #expect(one != (try PluginConfiguration(yaml: "a: 1\nb: {c: x, d: [1, 2]}")))
        // A relative path names another file in another folder.
        #expect(one != (try PluginConfiguration(yaml: "a: 1\nb: {c: x, d: [1]}", folder: "/other")))
    }

    @Test func `null in the config of a route unsets the value of the plugin`() throws {
        let text = """
            plugins: {e: {path: a, config: {root: /var, deep: {a: 1, b: 2}, list: [1, 2]}}}
            routes: [{vaddr: a, plugin: e, config: {root: ~, deep: {a: ~, c: 3}, list: {x: 1}}}]
            """
        let route = try #require(try HostConfiguration.parse(text, file: "c.yaml", folder: "/").routes.first)
        #expect(route.configuration.json == #"{"deep":{"a":null,"b":2,"c":3},"list":{"x":1},"root":null}"#)
        #expect(try route.configuration.string(at: "root") == nil)
        #expect(route.configuration.location.description == "c.yaml:2:40")
    }

    @Test func `a configuration that is not a valid mapping is refused`() {
        #expect(throws: ConfigurationErrors.self) { try PluginConfiguration(yaml: "[1]") }
        #expect(throws: ConfigurationErrors.self) { try PluginConfiguration(yaml: "a: .inf") }
        #expect(throws: ConfigurationErrors.self) { try PluginConfiguration(yaml: "a: [") }
    }
}
