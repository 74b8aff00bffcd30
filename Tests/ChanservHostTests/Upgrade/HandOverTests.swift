import AstraNet
import ChanservHost
import Foundation
import TestSupport
import Testing

/// The hand-over on the control socket of a host in this process.
@Suite struct HandOverTests {
    private func serving(_ body: (HostFixture, String) async throws -> Void) async throws {
        let fixture = try HostFixture()
        try fixture.configure(
            plugins: "{}", routes: "[]", top: "node: {listen: [\"127.0.0.1:0\", \"[::1]:0\"], control: c.sock}")
        try await fixture.host.start()
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(fixture, fixture.folder.file("c.sock")))
        } catch {
            result = .failure(error)
        }
        await fixture.host.shutdown(drain: .zero)
        try result.get()
    }

    /// Runs blocking calls of the process that takes over.
    private func blocking<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
        }
    }

    @Test func `a process gets the listening sockets, and the host goes on`() async throws {
        try await serving { fixture, path in
            let sockets = try await blocking {
                let host = try #require(try Predecessor.connect(to: path))
                defer { host.close() }
                return try host.listeners()
            }
            #expect(sockets.map { "\($0.configured!)" } == ["127.0.0.1:0", "[::1]:0"])
            let status = await fixture.host.status
            #expect(sockets.map(\.bound.printed) == status.listening)
            for socket in sockets {
                #expect(fcntl(socket.descriptor, F_GETFD) == FD_CLOEXEC)
                close(socket.descriptor)
            }
            let node = try await fixture.connect()
            await node.shutdown()
            #expect(status.stopping == nil)
        }
    }

    @Test func `after the hand-over the host accepts no connections, and its control socket has another path`()
        async throws
    {
        try await serving { fixture, path in
            let node = try await fixture.connect()
            let pid = try await blocking {
                let host = try #require(try Predecessor.connect(to: path))
                defer { host.close() }
                for socket in try host.listeners() { close(socket.descriptor) }
                return try host.handOver()
            }
            #expect(pid == getpid())
            await fixture.host.replacement.waitUntilReplaced()
            #expect(node.linkCount == 1)
            await #expect(throws: AstraNetError.self) { try await fixture.connect() }
            #expect(access(path, F_OK) != 0)
            let other = try #require(try await blocking { try Predecessor.connect(to: "\(path).\(getpid())") })
            let error = await #expect(throws: TakeOverError.self) {
                try await blocking {
                    defer { other.close() }
                    return try other.handOver()
                }
            }
            #expect(error?.description.contains("process \(getpid()) has taken over already") == true)
            await node.shutdown()
        }
    }

    @Test func `another version of the hand-over is refused`() async throws {
        try await serving { _, path in
            let client = try RawControlClient(path)
            client.send(#"{"command":"listeners","version":2}"# + "\n")
            let line = try #require(try await client.line())
            #expect(line.contains(#""code":"refused""#) && line.contains("version 1"), "\(line)")
        }
    }

    @Test func `without a host there is nothing to take over`() async throws {
        let folder = try TestFolder()
        let host = try await blocking { try Predecessor.connect(to: folder.file("c.sock")) }
        #expect(host == nil)
    }

    @Test(arguments: [
        "", "{}", "[1]", #"{"result":{"pid":1}}"#, #"{"result":{"pid":1,"addresses":["127.0.0.1:1"]}}"#,
    ])
    func `a host that answers with something else is refused`(answer: String) async throws {
        let folder = try TestFolder()
        let path = folder.file("c.sock")
        let file = try ControlSocketFile(binding: path)
        defer { close(file.descriptor) }
        Thread.detachNewThread {
            let connection = accept(file.descriptor, nil, nil)
            var bytes = [UInt8](repeating: 0, count: 512)
            _ = read(connection, &bytes, bytes.count)
            let line = answer + "\n"
            _ = write(connection, line, line.utf8.count)
            close(connection)
        }
        let error = await #expect(throws: TakeOverError.self) {
            try await blocking {
                let host = try #require(try Predecessor.connect(to: path))
                defer { host.close() }
                return try host.listeners()
            }
        }
        #expect(error?.kind == .refused)
    }
}
