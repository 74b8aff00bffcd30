import AstraNet
import Logging
import NIOCore
import NIOPosix
import Testing

/// Errors of accept(2) on a listening socket.
@Suite(.timeLimit(.minutes(5))) struct AcceptHandlerTests {
    private func reads(_ channel: any Channel) async throws -> Bool {
        try await channel.getOption(.autoRead).get()
    }

    @Test(arguments: [EMFILE, ENFILE, ENOBUFS, ENOMEM])
    func `a lack of resources pauses the socket for a second`(code: CInt) async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptHandler(name: "test", log: .silent))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        #expect(try await reads(server))
        server.pipeline.fireErrorCaught(IOError(errnoCode: code, reason: "accept"))
        #expect(try await !reads(server))
        // The event loop runs tasks in the order of their times.
        try await server.eventLoop.scheduleTask(in: .milliseconds(1_001)) {}.futureResult.get()
        #expect(try await reads(server))
        try await server.close()
    }

    @Test func `a connection that was closed before it was accepted does not pause the socket`() async throws {
        let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        try await server.eventLoop.submit {
            try server.pipeline.syncOperations.addHandler(AcceptHandler(name: "test", log: .silent))
        }.get()
        server.pipeline.fireErrorCaught(IOError(errnoCode: ECONNABORTED, reason: "accept"))
        #expect(try await reads(server))
        try await server.close()
    }
}
