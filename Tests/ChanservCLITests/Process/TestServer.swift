import AstraNet
import Chanserv
import ChanservAstraNet
import Foundation
import NIOCore

/// A server in the test process, for behaviour that the sample plugins do not have.
struct TestServer {
    private let node: Node
    private let service: VirtualService
    /// The address for `--join`.
    let address: String

    /// Calls `body` while `sourceFunc` serves the address `test`.
    static func serving(
        environment: String = "", _ sourceFunc: @escaping SourceFunc,
        _ body: (TestServer) async throws -> Void
    ) async throws {
        let node = Node(configuration: NodeConfiguration(environment: environment))
        let bound = try await node.listen(host: "127.0.0.1", port: 0)
        let service = try Server(multiplexer: AstraNetMultiplexer(node)).serve("test", sourceFunc)
        let server = TestServer(node: node, service: service, address: "127.0.0.1:\(bound.port!)")
        do {
            try await body(server)
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    private func stop() async {
        service.stopAccepting()
        service.cancelAll()
        await node.shutdown(grace: .zero)
    }

    /// Returns the content of the `index`-th test file: pseudo-random bytes, up to 2,000.
    static func contents(_ index: Int) -> [UInt8] {
        var state = UInt64(index) &* 0x9E37_79B9_7F4A_7C15 &+ 1
        return (0..<(index * 37 % 2_000)).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 56)
        }
    }
}
