import AstraNet
import NIOCore
import Testing

/// Direct links to hosts behind a router are as secure as the link to the router.
@Suite(.timeLimit(.minutes(5))) struct SecureDirectLinkTests {
    /// How a node is linked with a router, or where a host listens.
    enum Kind: CaseIterable {
        case plain
        /// The listener accepts both.
        case optional
        case secured

        fileprivate func security(direct: Bool = true) -> StubSecurity? {
            guard self != .plain else { return nil }
            var security = StubSecurity(uri: "test:node")
            security.requiresSecurity = self == .secured
            security.securesDirectLinks = direct
            return security
        }
    }

    @Test(arguments: [false, true], Kind.allCases)
    func `a node makes a direct link only if it is as secure as the one to the router`(
        isSecured: Bool, listener: Kind
    ) async throws {
        let hasDirectLink = try await linked(joining: isSecured ? Kind.secured.security() : nil, listener)
        let isExpected = isSecured ? listener != .plain : listener != .secured
        #expect(hasDirectLink == isExpected)
    }

    @Test(arguments: Kind.allCases)
    func `a node that cannot secure direct links makes none`(listener: Kind) async throws {
        let hasDirectLink = try await linked(joining: Kind.secured.security(direct: false), listener)
        #expect(!hasDirectLink)
    }

    /// Links a host that listens as `listener` says, and a client, with a router.
    ///
    /// - Returns: whether the client makes a direct link.
    private func linked(
        joining security: StubSecurity?, _ listener: Kind
    ) async throws -> Bool {
        let (router, server, client) = (
            Node.withoutTimeouts(.router), Node.withoutTimeouts(.server), Node.withoutTimeouts(.peer)
        )
        let loopback = NodeAddress.tcp(host: "127.0.0.1", port: 0)
        let plain = try await router.listen(at: loopback)
        let secured = try await router.listen(at: loopback, security: StubSecurity(uri: "test:member"))
        try await server.listen(at: loopback, security: listener.security())
        let echo = try server.echo("echo")
        try await server.join(plain)
        let address = security == nil ? plain : secured
        // The answers to DISCOVER, which the router forwards, come before that of a later request to the host.
        try await client.join(
            .tcp(host: "127.0.0.1", port: address.port!), security: security, deadline: .testDeadline)
        try await client.expectEcho("echo")
        // A FOLLOW that is used has been passed to the joiner by then.
        try await client.expectEcho("echo")
        if !client.core.joiner.isIdle { try await eventually { client.peers.contains(server.id) } }
        let hasDirectLink = client.peers.contains(server.id)
        echo.close()
        for node in [client, server, router] { await node.shutdown() }
        return hasDirectLink
    }
}
