import AstraNet
import Foundation
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// Connections with programs that are not nodes: what the node logs, and what its caller is told.
@Suite(.timeLimit(.minutes(5))) struct ForeignPeerTests {
    @Test(arguments: [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "it sent an HTTP request"),
        // Shorter than the header of an op.
        ("GET / HTTP/1.0\r\n\r\n", "it sent an HTTP request"), ("POST", "it sent an HTTP request"),
        ("HTTP/1.1 400", "it sent an HTTP response"), ("SSH-2.0-OpenSSH_9.6\r\n", "it sent an SSH greeting"),
        ("\u{16}\u{3}\u{1}", "it sent a TLS handshake"), ("hello", "its first bytes are not a handshake"),
    ])
    func `one warning names a peer that is not a node and what it sent`(text: String, phrase: String) async throws {
        let (node, log) = Self.node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        let port = try #require(peer.channel.localAddress?.port)
        peer.send(Array(text.utf8))
        await peer.closed()
        let line = "127.0.0.1:\(port) is not a chanserv node (\(phrase)); "
        #expect(log.warnings == ["\(line)connection closed"])
        await node.shutdown()
    }

    @Test func `many foreign connections from one address cause one warning`() async throws {
        let (node, log) = Self.node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        for text in ["GET / HTTP/1.1", "SSH-2.0-x", "hello"] {
            let peer = try await RawPeer.connect(to: address)
            peer.send(Array(text.utf8))
            await peer.closed()
        }
        #expect(log.warnings.count == 1)
        #expect(log.warnings.first?.contains("(it sent an HTTP request)") == true)
        await node.shutdown()
    }

    @Test func `the first connection beyond the limit of links is a warning that names the limit`() async throws {
        let (node, log) = Self.node { $0.maximumLinks = 1 }
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        _ = await peer.handshake()
        for _ in 0..<3 { await (try await RawPeer.connect(to: address)).closed() }
        #expect(log.warnings.count == 1)
        let warning = try #require(log.warnings.first)
        #expect(warning.hasPrefix("refused a connection from 127.0.0.1:"))
        #expect(warning.hasSuffix(": the limit of 1 links is reached (node.limits.links)"))
        await peer.close()
        await node.shutdown()
    }

    @Test func `the first bytes of a request are recognised when they arrive one by one`() async throws {
        let (node, log) = Self.node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        for byte in "HEAD / HTTP/1.1".utf8 where await peer.sendAll([byte]) {
            try await Task.sleep(for: .milliseconds(2))
        }
        await peer.closed()
        #expect(log.warnings.count == 1)
        #expect(log.warnings.first?.contains("(it sent an HTTP request)") == true)
        await node.shutdown()
    }

    @Test func `an op that is too large before the handshake counts as foreign bytes`() async throws {
        let (node, log) = Self.node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        peer.send([0x80] + [UInt8](repeating: 0xFF, count: 40))
        await peer.closed()
        #expect(log.warnings.first?.hasSuffix("(its first bytes are not a handshake); connection closed") == true)
        await node.shutdown()
    }

    @Test func `a peer that sends no handshake is reported by a warning`() async throws {
        let (node, log) = Self.node { $0.handshakeTimeout = .milliseconds(250) }
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        let port = try #require(peer.channel.localAddress?.port)
        await peer.closed()
        #expect(log.warnings == ["127.0.0.1:\(port) sent no handshake within 250ms; connection closed"])
        await node.shutdown()
    }

    @Test(arguments: [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it sent an HTTP response"),
        ("220 mail.example.org ESMTP\r\n", "its first bytes are not a handshake"),
    ])
    func `a join of another kind of server says what the server sent`(text: String, phrase: String) async throws {
        let (node, log) = Self.node()
        let server = try await RawPeer.listen()
        async let sent: Void? = server.peers.next()?.send(Array(text.utf8))
        let error = await #expect(throws: AstraNetError.self) {
            try await node.join(host: "127.0.0.1", port: server.port, deadline: .testDeadline)
        }
        _ = await sent
        #expect(error?.message == "the server there is not a chanserv node (\(phrase))")
        #expect(log.warnings.isEmpty)
        try await server.close()
        await node.shutdown()
    }

    @Test func `a join of a silent server says that it sent no handshake`() async throws {
        let (node, _) = Self.node()
        let server = try await RawPeer.listen()
        let error = await #expect(throws: AstraNetError.self) {
            try await node.join(host: "127.0.0.1", port: server.port, deadline: .now + .seconds(1))
        }
        // The time is what was left of the deadline when the connection was accepted.
        let message = try #require(error?.message)
        #expect(message.hasPrefix("the server accepted the connection but sent no handshake within "))
        #expect(message.hasSuffix("s; it may be another kind of server"))
        try await server.close()
        await node.shutdown()
    }

    @Test(arguments: [false, true])
    func `a join that the server ends says so in plain words`(resets: Bool) async throws {
        let (node, _) = Self.node()
        let server = try await RawPeer.listen()
        let ending = Task {
            guard let peer = await server.peers.next() else { return }
            if resets { try await peer.resetOnClose() }
            await peer.close()
        }
        let error = await #expect(throws: AstraNetError.self) {
            try await node.join(host: "127.0.0.1", port: server.port, deadline: .testDeadline)
        }
        try await ending.value
        #expect(error?.message == "the server closed the connection")
        try await server.close()
        await node.shutdown()
    }

    @Test func `a reset of a link is reported without names of system calls`() async throws {
        let (node, _) = Self.node()
        let listener = try node.bind("target")
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        _ = await peer.handshake()
        await peer.open(listener.address, from: 5)
        let stream = try await listener.nextStream(deadline: .testDeadline)
        try await peer.resetOnClose()
        await peer.close()
        let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .testDeadline) }
        #expect(error?.message.contains("errno") == false)
        #expect(error?.message.contains("the connection was reset by the peer") == true)
        stream.close()
        await node.shutdown()
    }

    @Test func `the first failed join of an address is a warning and the next ones are not`() async throws {
        let (node, log) = Self.node()
        let server = try await RawPeer.listen()
        let port = server.port
        try await server.close()
        let joining = Task { await node.keepJoined(host: "127.0.0.1", port: port) }
        while log.count("join failed") < 3 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(log.warnings == ["join failed"])
        joining.cancel()
        await node.shutdown()
    }

    @Test func `a node that joins itself warns once`() async throws {
        let (node, log) = Self.node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let port = try #require(address.port)
        let joining = Task { await node.keepJoined(host: "127.0.0.1", port: port) }
        while log.count("join failed") < 2 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(log.warnings == ["join failed"])
        joining.cancel()
        await node.shutdown()
    }

    private static func node(
        _ configure: (inout NodeConfiguration) -> Void = { _ in }
    ) -> (node: Node, log: CollectedLog) {
        let log = CollectedLog()
        var configuration = NodeConfiguration.withoutTimeouts()
        configure(&configuration)
        return (Node(configuration: configuration, logger: Logger(label: "test") { _ in log }), log)
    }
}

extension RawPeer {
    /// Makes the close of the connection a reset.
    fileprivate func resetOnClose() async throws {
        let socket = try #require(channel as? any SocketOptionProvider)
        // With a linger time of 0, a close sends RST instead of FIN.
        try await socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
    }
}

/// A log handler that keeps all messages.
struct CollectedLog: LogHandler {
    private let lines = NIOLockedValueBox<[(level: Logger.Level, message: String)]>([])
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    var warnings: [String] { lines.withLockedValue { $0.filter { $0.level >= .warning }.map(\.message) } }

    func count(_ message: String) -> Int { lines.withLockedValue { $0.count { $0.message == message } } }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        lines.withLockedValue { $0.append((event.level, event.message.description)) }
    }
}
