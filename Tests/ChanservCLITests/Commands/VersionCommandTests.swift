import AstraNet
import CChanservPlugin
import Foundation
import TestSupport
import Testing

/// Tests `chanserv version`.
@Suite struct VersionCommandTests {
    private struct Description: Decodable {
        var version: String
        var commit: String?
        var build: String
        var abi: String
        var `protocol`: NetworkProtocol

        struct NetworkProtocol: Decodable {
            var abilities: [String]
            var dialBlock: Int
        }
    }

    @Test func `version and --version print the same line`() async throws {
        let exit = try await ChanservCommand.run("version")
        #expect(exit.code == 0)
        #expect(exit.text.contains(#/^\d+\.\d+\.\d+\n$/#))
        #expect(exit.errors == "")
        #expect(try await ChanservCommand.run("--version").text == exit.text)
    }

    @Test func `version --json is one object on one line`() async throws {
        let exit = try await ChanservCommand.run("version", "--json")
        #expect(exit.code == 0)
        #expect(exit.lines.count == 1)
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let description = try decoder.decode(Description.self, from: Data(exit.text.utf8))
        #expect(try await ChanservCommand.run("version").text == description.version + "\n")
        #expect(["debug", "release"].contains(description.build))
        #expect(description.abi == "\(CHANSERV_ABI_MAJOR).\(CHANSERV_ABI_MINOR)")
        #expect(description.protocol.abilities == Handshake.Ability.allCases.map(\.rawValue).sorted())
        #expect(description.protocol.dialBlock == 1)
    }
}
