internal import HostConfiguration
internal import Logging
internal import PluginRuntime

/// Opens the sockets of a host that starts: the listening sockets and the control socket. Takes over from the host that
/// runs, if this is asked for.
struct HostOpening: Sendable {
    let node: HostConfiguration.Node
    /// Path of the configuration file, for messages.
    let file: String
    let network: any HostNetwork
    /// Run the calls that block.
    let threads: PluginThreads
    let logger: Logger

    /// Listens at the addresses of the configuration, with the inherited sockets where they match, and creates the
    /// control socket.
    ///
    /// - Returns: the addresses with their assigned ports, and the control socket; `nil` if the configuration has none.
    /// - Throws: ``HostError`` with all problems. The network may listen at some addresses then.
    func open(
        for host: PluginHost, inheriting inheritance: HostInheritance
    ) async throws(HostError) -> (listening: [HostAddress], control: ControlSocket?) {
        let inherited = inheritance.sockets ?? InheritedListeners()
        defer { inherited.close() }
        var predecessor: Predecessor?
        defer { predecessor?.close() }
        if inheritance.takesOver { predecessor = try await findPredecessor(inherited) }
        var (listening, problems) = await listen(inherited)
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
                case .refused: throw HostError(.unavailable, [error.description])
                case .lost:
                    // The other host may get the request later, and then stops. So this one must serve.
                    isConfirmed = false
                    logger.warning("\(error); this host serves")
                }
            }
        }
        if problems.isEmpty { await (network as? any ReplaceableNetwork)?.startAccepting() }
        var control: ControlSocket?
        if let path = node.control, predecessor == nil || problems.isEmpty {
            do throws(ControlSocketError) {
                control = try await ControlSocket(
                    at: path, host: host, threads: threads, logger: logger, replacesListener: !isConfirmed)
            } catch  where predecessor != nil {
                // The other host has stopped accepting connections already.
                logger.error("\(error); 'chanserv reload' and the other commands do not work until a restart")
            } catch {
                problems.append("\(node.controlLocation ?? ConfigurationLocation(file: file)): \(error)")
            }
        }
        guard problems.isEmpty else {
            await control?.stop()
            throw HostError(.unavailable, problems)
        }
        return (listening, control)
    }

    /// Listens at all addresses, without accepting connections at inherited sockets.
    private func listen(_ inherited: InheritedListeners) async -> (listening: [HostAddress], problems: [String]) {
        var listening: [HostAddress] = []
        var problems: [String] = []
        for options in node.listen {
            let address = options.address
            do {
                if let network = network as? any ReplaceableNetwork {
                    listening.append(try await network.listen(at: address, inheriting: inherited))
                } else {
                    listening.append(try await network.listen(at: address))
                }
            } catch {
                let place = options.location ?? ConfigurationLocation(file: file)
                problems.append("\(place): \(error)")
            }
        }
        return (listening, problems)
    }

    // MARK: - The host that is replaced

    /// Finds the host that runs with the control socket of the configuration, and asks it for its sockets.
    ///
    /// - Returns: `nil` if no host runs.
    private func findPredecessor(_ inherited: InheritedListeners) async throws(HostError) -> Predecessor? {
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
