import AstraNet
import CBuild
import CChanservPlugin
import FoundationEssentials

/// Renders the version as one JSON object on one line:
/// `{"abi":"1.1","build":"release","commit":"…","protocol":{"abilities":["eager"],"dial_block":1},"version":"0.1.0"}`.
/// `commit` is missing if the build did not get one.
enum VersionJSON {
    static func render() -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(Object()), as: UTF8.self) + "\n"
        } catch {
            // Unreachable: strings, integers and lists of them always encode.
            fatalError("cannot encode the version: \(error)")
        }
    }

    private struct Object: Encodable {
        var version = ChanservCommand.version
        var commit = cbuild_commit().map { String(cString: $0) }
        var build = VersionJSON.build
        var abi = "\(CHANSERV_ABI_MAJOR).\(CHANSERV_ABI_MINOR)"
        var `protocol` = NetworkProtocol()
    }

    private struct NetworkProtocol: Encodable {
        var abilities = Handshake.Ability.allCases.map(\.rawValue).sorted()
        var dialBlock = DialBlock.version

        enum CodingKeys: String, CodingKey {
            case abilities
            case dialBlock = "dial_block"
        }
    }

    private static var build: String {
        #if DEBUG
            "debug"
        #else
            "release"
        #endif
    }
}
