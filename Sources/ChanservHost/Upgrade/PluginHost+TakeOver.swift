package import HostConfiguration
internal import Logging

/// The network of a host that can be replaced by another process.
package protocol ReplaceableNetwork: HostNetwork {
    /// Listens as ``HostNetwork/listen(at:)`` does. Uses the inherited socket for the address, if there is one, and
    /// accepts connections there after ``startAccepting()``.
    func listen(at address: HostAddress, inheriting sockets: InheritedListeners) async throws -> HostAddress

    /// Accepts connections at inherited sockets.
    func startAccepting() async

    /// Duplicates of the listening sockets, in the order in which they were opened. The caller owns the descriptors.
    func duplicateListeners() async throws -> [(address: HostAddress, descriptor: Int32)]

    /// Stops listening, and tells clients to join again.
    func goAway() async

    /// Closes each link that another node has dialled when it has no streams.
    func closeIdleLinks()
}

extension PluginHost {
    /// Starts as ``start()`` does, with what this process inherits.
    package func start(inheriting inheritance: HostInheritance) async throws(HostError) {
        self.inheritance = inheritance
        try await start()
    }

    /// Listens at the addresses of the configuration, with the inherited sockets where they match, and creates the
    /// control socket. Takes over from the host that runs, if this was asked for.
    func listen(_ node: HostConfiguration.Node, on network: any HostNetwork) async -> HostError? {
        let inherited = inheritance.sockets ?? InheritedListeners()
        inheritance.sockets = nil
        defer { inherited.close() }
        var predecessor: Predecessor?
        defer { predecessor?.close() }
        if inheritance.takesOver {
            do throws(HostError) {
                predecessor = try await findPredecessor(node, inherited)
            } catch {
                return error
            }
        }
        var problems = await listen(node, on: network, inherited)
        problems += inherited.unusedActivated.map {
            "the service manager passes a socket at \($0), which is no address of node.listen: add it there, or remove "
                + "it from the socket unit"
        }
        var isConfirmed = true
        if problems.isEmpty, let predecessor {
            do throws(TakeOverError) {
                try await handOver(from: predecessor)
            } catch {
                switch error.kind {
                case .refused: problems.append(error.description)
                case .lost:
                    // The other host may get the request later, and then stops. So this one must serve.
                    isConfirmed = false
                    logger.warning("\(error); this host serves")
                }
            }
        }
        if problems.isEmpty { await (network as? any ReplaceableNetwork)?.startAccepting() }
        if let path = node.control, predecessor == nil || problems.isEmpty {
            do throws(ControlSocketError) {
                control = try await ControlServer.start(
                    at: path, host: self, threads: threads, logger: logger, replacesListener: !isConfirmed)
            } catch  where predecessor != nil {
                // The other host has stopped to accept connections already.
                logger.error("\(error); 'chanserv reload' and the other commands do not work until a restart")
            } catch {
                problems.append("\(node.controlLocation ?? ConfigurationLocation(file: file)): \(error)")
            }
        }
        return problems.isEmpty ? nil : HostError(.unavailable, problems)
    }

    /// Listens at all addresses, without accepting connections at inherited sockets.
    private func listen(
        _ node: HostConfiguration.Node, on network: any HostNetwork, _ inherited: InheritedListeners
    ) async -> [String] {
        var problems: [String] = []
        for address in node.listen {
            do {
                if let network = network as? any ReplaceableNetwork {
                    listening.append(try await network.listen(at: address, inheriting: inherited))
                } else {
                    listening.append(try await network.listen(at: address))
                }
            } catch {
                let place = node.listenLocations[address] ?? ConfigurationLocation(file: file)
                problems.append("\(place): \(error)")
            }
        }
        return problems
    }

    /// Finds the host that runs with the control socket of the configuration, and asks it for its sockets.
    ///
    /// - Returns: `nil` if no host runs.
    private func findPredecessor(
        _ node: HostConfiguration.Node, _ inherited: InheritedListeners
    ) async throws(HostError) -> Predecessor? {
        guard let path = node.control else {
            throw HostError(
                .badConfiguration,
                ["\(file): --take-over finds the host by 'control' under 'node', which is not set"])
        }
        let result = await threads.run { () -> Result<Predecessor?, TakeOverError> in
            do throws(TakeOverError) {
                guard let host = try Predecessor.connect(to: path) else { return .success(nil) }
                do throws(TakeOverError) {
                    inherited.add(try host.listeners())
                } catch {
                    host.close()
                    throw error
                }
                return .success(host)
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .failure(let error): throw HostError(.unavailable, [error.description])
        case .success(let host):
            if host == nil { logger.info("no host runs with the control socket \(quoted(path)): nothing to take over") }
            return host
        }
    }

    private func handOver(from predecessor: Predecessor) async throws(TakeOverError) {
        let result = await threads.run { () -> Result<Int32, TakeOverError> in
            do throws(TakeOverError) {
                return .success(try predecessor.handOver())
            } catch {
                return .failure(error)
            }
        }
        let pid = try result.get()
        logger.info("took over from process \(pid)")
    }
}
