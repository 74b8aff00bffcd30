import CChanservPlugin
import HostConfiguration
import PluginRuntime
import TestSupport
import Testing

@testable import ChanservPlugin

/// Decoding of plugin configurations in the Swift SDK, with the getters of the host.
@Suite struct SwiftConfigurationTests {
    private struct Everything: Decodable, Equatable {
        enum Unit: String, Decodable, CaseIterable { case lines, chunks }

        struct Limit: Decodable, Equatable {
            let name: String
            let size: ByteSize
        }

        let text: String
        let number: Double
        let small: UInt8
        let loud: Bool
        let interval: Duration
        let root: ConfiguredPath
        let unit: Unit
        let limits: [Limit]
        let commands: [String: [String]]
        let left: String?
        let null: Int?
    }

    @Test func `values of all types are decoded`() throws {
        let everything: Everything = try decode(
            """
            text: "grüezi \\"quoted\\" \\\\ \\t end"
            number: 3
            small: 255
            loud: true
            interval: 1m30s
            root: logs/today
            unit: chunks
            limits: [{name: a, size: 64KiB}, {name: b, size: 12}]
            commands: {disk.free: [/bin/df, -h], "": [], nothing: []}
            null: ~
            """)
        #expect(
            everything
                == Everything(
                    text: "grüezi \"quoted\" \\ \t end", number: 3, small: 255, loud: true, interval: .seconds(90),
                    root: ConfiguredPath("/srv/logs/today"), unit: .chunks,
                    limits: [.init(name: "a", size: .kibibytes(64)), .init(name: "b", size: .bytes(12))],
                    commands: ["disk.free": ["/bin/df", "-h"], "": [], "nothing": []], left: nil, null: nil))
    }

    private struct Options: Codable, Equatable {
        struct Limits: Codable, Equatable {
            var most = 5
            var sizes = [1, 2]
            var names = ["a": 1]
        }

        enum Unit: String, Codable, CaseIterable { case lines, chunks }

        var sources = 1
        var interval = Duration.seconds(1)
        var size = ByteSize.mebibytes(1)
        var unit = Unit.lines
        var limits = Limits(most: 7)
        var title: String?
    }

    @Test func `values that the configuration omits are those of the example`() throws {
        #expect(try decode("", over: Options()) == Options())
        var expected = Options(sources: 3, interval: .milliseconds(250), unit: .chunks)
        expected.limits.names = ["b": 2]
        expected.title = "x"
        let options = try decode(
            "{sources: 3, interval: 250ms, unit: chunks, size: ~, limits: {names: {b: 2}}, title: x}", over: Options())
        #expect(options == expected)
    }

    @Test(arguments: [
        ("sources: x", "config:1:10: expected an integer, found the text 'x' (sources)"),
        ("sources: [1]", "config:1:10: expected an integer, found a list (sources)"),
        (
            "interval: 5",
            "config:1:11: expected a duration such as 30s: '5' has no unit (h, m, s, ms, us or ns) (interval)"
        ),
        ("unit: line", "config:1:7: expected one of lines, chunks, found the text 'line' (unit)"),
        ("limits:\n  most: 1.5", "config:2:9: expected an integer, found the number 1.5 (limits.most)"),
        ("limits: [1]", "config:1:9: expected a mapping, found a list (limits)"),
        ("limits:\n  names: {b: x}", "config:2:14: expected an integer, found the text 'x' (limits.names.b)"),
        ("limits:\n  sizes: [1, two]", "config:2:14: expected an integer, found the text 'two' (limits.sizes.1)"),
        ("souces: 1", "config:1:1: unknown key 'souces'; did you mean 'sources'?"),
        ("limits: {mots: 1}", "config:1:16: unknown key 'mots'; did you mean 'most'? (limits.mots)"),
        ("limits: {xyz: [1]}", "config:1:15: unknown key 'xyz' (limits.xyz)"),
    ]) func `a wrong value is reported with its location and key`(yaml: String, message: String) throws {
        let error = try #require(throws: ChanservPlugin.PluginError.self) { try decode(yaml, over: Options()) }
        #expect(error.code == .badRequest)
        #expect(error.message == message)
    }

    private struct Strict: Decodable {
        struct Inner: Decodable {
            let port: UInt16
        }

        let inner: [Inner]

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            inner = try container.decode([Inner].self, forKey: .inner)
            if inner.contains(where: { $0.port < 1024 }) {
                throw DecodingError.dataCorruptedError(forKey: .inner, in: container, debugDescription: "a low port")
            }
        }

        private enum Key: CodingKey { case inner }
    }

    @Test(arguments: [
        ("", "'inner' is missing"),
        ("inner:\n  - {}", "config:2:5: 'port' is missing (inner.0)"),
        ("inner: [{port: 65536}]", "config:1:16: 65536 is not between 0 and 65535 (inner.0.port)"),
        ("inner: [{port: -1}]", "config:1:16: -1 is not between 0 and 65535 (inner.0.port)"),
        ("inner: [{port: 80}]", "config:1:8: a low port (inner)"),
        ("inner: [{port: 8080, part: 1}]", "config:1:28: unknown key 'part'; did you mean 'port'? (inner.0.part)"),
    ]) func `a missing key or a violated rule of the type is reported`(yaml: String, message: String) throws {
        let error = try #require(throws: ChanservPlugin.PluginError.self) { () throws -> Strict in try decode(yaml) }
        #expect(error.message == message)
    }

    // MARK: Support

    private func decode<Options: Decodable>(_ yaml: String) throws -> Options {
        try withConfiguration(yaml) { try $0.decode() }
    }

    private func decode<Options: Codable>(_ yaml: String, over example: Options) throws -> Options {
        try withConfiguration(yaml) { try $0.decode(over: example) }
    }

    private func withConfiguration<Result>(
        _ yaml: String, _ body: (borrowing ChanservPlugin.Configuration) throws -> Result
    ) throws -> Result {
        let table = HostTable(logger: RecordingLog().logger)
        let values = try PluginConfiguration(yaml: yaml, folder: "/srv")
        return try table.context.lending(values) { config in
            Swift.Result { try body(Configuration(host: table.pointer, config: config)) }
        }.get()
    }
}
