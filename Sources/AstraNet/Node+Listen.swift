internal import NIOConcurrencyHelpers
public import NIOCore
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

extension Node {
    /// Listens at an address and accepts links there.
    ///
    /// - Parameters:
    ///   - address: the address. Port 0 selects any free port. An existing file at the path of a Unix socket is an error,
    ///     unless it is a socket at which no process listens: that is replaced.
    ///   - security: secures the connections, for example `TLSServer` of `AstraNetTLS`. `nil`, the default, for none.
    /// - Returns: the address at which the node listens.
    /// - Throws: ``AstraNetError`` with code `addressInUse`, `addressNotAvailable` or `unreachable`, and the error of
    ///   the operating system in the message; or with code `closed` if the node is shut down.
    @discardableResult
    public func listen(
        at address: NodeAddress, security: (any LinkSecurity)? = nil
    ) async throws(AstraNetError) -> SocketAddress {
        try await listen(at: address, security: security) { _ in nil }
    }

    /// Listens at a host and a port as ``listen(at:security:)`` does.
    @discardableResult
    public func listen(host: String, port: Int) async throws(AstraNetError) -> SocketAddress {
        try await listen(at: .tcp(host: host, port: port))
    }

    /// Listens as ``listen(at:security:)`` does, with a socket that another process has bound. The node accepts
    /// connections at such a socket after ``startAccepting()``.
    ///
    /// - Parameters:
    ///   - mode: the permissions of the file of a Unix socket. By default only the user of the process and root can
    ///     connect.
    ///   - adopting: returns a listening socket to use for this address, which the node then owns; `nil` to
    ///     bind a new one.
    @discardableResult
    package func listen(
        at address: NodeAddress, security: (any LinkSecurity)?, mode: UInt32 = UnixSocketFile.mode,
        adopting: (SocketAddress) -> CInt?
    ) async throws(AstraNetError) -> SocketAddress {
        let core = core
        let network = core.surroundings.network
        let server: any Channel
        let requested: SocketAddress
        do {
            requested = try await core.lookUp(address).get()[0]
            let origin = LinkOrigin.accepted(listener: address)
            let makeLink: @Sendable (any Channel) -> EventLoopFuture<Void> = { channel in
                core.makeLink(
                    of: channel, origin: origin, security: security, up: channel.eventLoop.makePromise())
            }
            if let descriptor = adopting(requested) {
                server = try await SocketNetwork.adopt(descriptor, on: core.group, initializer: makeLink).get()
            } else if case .unix(let path) = address {
                let descriptor = try UnixSocketFile.listen(at: path, mode: mode, backlog: SocketNetwork.backlog)
                server = try await SocketNetwork.adopt(descriptor, on: core.group, initializer: makeLink).get()
                try await server.setOption(.autoRead, value: true).get()
            } else {
                server = try await network.listen(at: requested, on: core.group, initializer: makeLink).get()
            }
            let accepting = server
            let log = core.log
            let name = requested.ipAddress == nil ? "\(address)" : accepting.localAddress?.printed ?? "\(address)"
            try await accepting.eventLoop.submit {
                try accepting.pipeline.syncOperations.addHandler(AcceptHandler(name: name, log: log))
            }.get()
        } catch {
            throw AstraNetError(
                SocketNetwork.listenFailure(error),
                "cannot listen on \(address): \(SocketNetwork.reason(error))")
        }
        servers.withLockedValue { $0.append(server) }
        if core.directory.isClosed {
            server.close(promise: nil)
            throw AstraNetError(.closed, "cannot listen on \(address): the node is closed")
        }
        let bound = server.localAddress ?? requested
        if let ip = bound.ipAddress, let port = bound.port {
            if security != nil { core.listens(at: ip, port: port, isSecure: true) }
            if security?.requiresSecurity != true { core.listens(at: ip, port: port, isSecure: false) }
        }
        return bound
    }

    // MARK: - Replacement by another process

    /// Returns duplicates of the listening sockets, in the order of the calls of ``listen(at:security:)``. They are
    /// close-on-exec, and the caller owns them.
    ///
    /// - Throws: ``AstraNetError`` with code `closed` if a socket is closed, or `limitReached` if the process has no
    ///   free descriptor.
    package func duplicateListeners() async throws(AstraNetError) -> [CInt] {
        var descriptors: [CInt] = []
        for server in servers.withLockedValue({ $0 }) {
            do {
                guard let descriptor = try await server.duplicateDescriptor() else {
                    throw AstraNetError(.closed, "a listening socket is closed")
                }
                descriptors.append(descriptor)
            } catch {
                for descriptor in descriptors { close(descriptor) }
                throw error as? AstraNetError ?? AstraNetError(.closed, SocketNetwork.reason(error))
            }
        }
        return descriptors
    }

    /// Accepts connections at the sockets that other processes have bound.
    ///
    /// Of two processes with the same socket only one may accept. The system wakes both for each connection, and a
    /// debug build of NIO ends a process that finds no connection then.
    package func startAccepting() async {
        await setAccepting(true)
    }

    private func setAccepting(_ isAccepting: Bool) async {
        for server in servers.withLockedValue({ $0 }) {
            do {
                try await server.setOption(.autoRead, value: isAccepting).get()
            } catch {
                // The socket is closed, because the node is shut down.
            }
        }
    }

    /// Waits until connections that were accepted before the call are set up.
    ///
    /// NIO sets a connection up on its own event loop, and then returns to that of the listening socket. If the socket
    /// was closed meanwhile, it closes the connection.
    private func waitForAcceptedConnections() async {
        for _ in 0..<2 {
            for loop in core.group.makeIterator() {
                do {
                    try await loop.submit {}.get()
                } catch {
                    // The event loop has ended, and its connections with it.
                }
            }
        }
    }

    /// Stops listening, and sends GOAWAY over all links (`docs/protocol.md` §3): nodes that have dialled this one join
    /// its address again, and all prefer other links. Links and services stay.
    package func goAway() async {
        await setAccepting(false)
        await waitForAcceptedConnections()
        // The new process listens at the files of Unix sockets.
        await stopListening(removesFiles: false)
        for link in core.directory.goAway() { link.sendGoAway() }
    }

    /// Closes each link as soon as it has had no streams for 3 s.
    package func closeIdleLinks() {
        for link in core.directory.links { link.retire() }
    }

    /// Waits while links are open over which this node has forwarded streams, because it does not know whether the
    /// streams still exist. Peers close such links when they have no streams. A cancellation ends the wait.
    package func waitForForwardedStreams(until deadline: ContinuousClock.Instant) async {
        while core.directory.links.contains(where: { $0.hasForwarded.load(ordering: .relaxed) }), .now < deadline {
            do {
                try await Task.sleep(until: min(deadline, .now + .milliseconds(100)), clock: .continuous)
            } catch {
                return
            }
        }
    }

    /// - Parameter removesFiles: whether the files of Unix sockets are removed.
    func stopListening(removesFiles: Bool) async {
        let servers = servers.withLockedValue { servers in
            defer { servers = [] }
            return servers
        }
        for server in servers {
            if removesFiles, let path = server.localAddress?.pathname { UnixSocketFile.remove(path) }
            await Self.closed(server)
        }
    }
}
