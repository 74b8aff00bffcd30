package import AstraNet
internal import AstraNetTLS
internal import Glibc
package import HostConfiguration

/// The certificates, keys and CAs of a host: those of its listeners, and those of the nodes that it joins.
///
/// The files are read at the start and at each reload. A reload uses all of them or, if one is wrong, none. Links that
/// are up keep what they began with.
package final class HostSecurity: Sendable {
    /// The content of all files that the configuration names.
    package struct Files: Sendable {
        fileprivate var servers: [HostAddress: TLSServer.Loaded] = [:]
        fileprivate var clients: [HostAddress: TLSClient.Loaded] = [:]
        /// The warnings about certificates that expire soon, one line each with the place in the configuration.
        package fileprivate(set) var warnings: [String] = []

        /// No files: no TLS.
        package init() {}
    }

    private let servers: [HostAddress: TLSServer]
    private let clients: [HostAddress: TLSClient]

    package init(_ files: Files) {
        servers = files.servers.mapValues { TLSServer($0) }
        clients = files.clients.mapValues { TLSClient($0) }
    }

    /// Uses the content of files that were read again. Listeners and joins that are new in the configuration need a
    /// restart of the host.
    package func use(_ files: Files) {
        for (address, loaded) in files.servers { servers[address]?.use(loaded) }
        for (address, loaded) in files.clients { clients[address]?.use(loaded) }
    }

    /// The listeners and joins whose certificate, CAs or other settings differ in files that were read again, such as
    /// `listen 0.0.0.0:5556`.
    package func changes(to files: Files) -> [String] {
        let listening = servers.filter { address, server in
            files.servers[address].map { $0 != server.loaded } ?? false
        }
        let joining = clients.filter { address, client in
            files.clients[address].map { $0 != client.loaded } ?? false
        }
        return listening.keys.map { "listen \($0)" }.sorted() + joining.keys.map { "join \($0)" }.sorted()
    }

    /// The security of a listener; `nil` for none.
    package func listener(at address: HostAddress) -> (any LinkSecurity)? { servers[address] }

    /// The security of the links to a node that is joined; `nil` for none.
    package func join(_ address: HostAddress) -> (any LinkSecurity)? { clients[address] }

    /// The certificates in use, those of listeners first, ordered by address.
    package var certificates: [HostStatus.Certificate] {
        let listening = servers.map { HostStatus.Certificate($1.loaded.certificate, .listen, $0) }
        let joining = clients.compactMap { address, client in
            client.loaded.certificate.map { HostStatus.Certificate($0, .join, address) }
        }
        return listening.sorted { $0.address < $1.address } + joining.sorted { $0.address < $1.address }
    }

    // MARK: - Reading

    /// Reads and checks the files of joins only, for commands that are clients. Blocks on the file system.
    ///
    /// - Throws: all errors, with their places in the configuration.
    package static func read(joins: [JoinOptions]) throws(ConfigurationErrors) -> Files {
        var node = HostConfiguration.Node()
        node.listen = []
        node.join = joins
        return try read(node)
    }

    /// Reads and checks all files. Blocks on the file system.
    ///
    /// - Throws: all errors, with their places in the configuration.
    package static func read(_ node: HostConfiguration.Node) throws(ConfigurationErrors) -> Files {
        var files = Files()
        var errors: [ConfigurationError] = []
        for entry in node.listen {
            guard let tls = entry.tls else { continue }
            do throws(TLSFileError) {
                let loaded = try TLSServer.load(TLSServerSettings(tls))
                files.servers[entry.address] = loaded
                files.warn(about: [loaded.certificate], at: tls.certificate.location)
                if let ca = tls.clientCA { files.warn(about: loaded.clientAuthorities, at: ca.location) }
            } catch {
                errors.append(
                    ConfigurationError(error, in: [tls.certificate, tls.key, tls.clientCA], or: entry.location))
            }
        }
        for entry in node.join {
            guard let tls = entry.tls else { continue }
            do throws(TLSFileError) {
                let loaded = try TLSClient.load(TLSClientSettings(tls, for: entry.address))
                files.clients[entry.address] = loaded
                if let certificate = loaded.certificate, let location = tls.certificate?.location {
                    files.warn(about: [certificate], at: location)
                }
                if let ca = tls.ca { files.warn(about: loaded.authorities, at: ca.location) }
            } catch {
                let place = entry.location ?? ConfigurationLocation(file: "\(entry.address)")
                errors.append(ConfigurationError(error, in: [tls.certificate, tls.key, tls.ca], or: place))
            }
        }
        guard errors.isEmpty else { throw ConfigurationErrors(errors) }
        return files
    }
}

extension HostSecurity.Files {
    fileprivate mutating func warn(about certificates: [CertificateSummary], at location: ConfigurationLocation) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        for certificate in certificates {
            guard let warning = certificate.warning(at: Int64(now.tv_sec)) else { continue }
            let line = "\(location): \(certificate.file): \(warning)"
            if !warnings.contains(line) { warnings.append(line) }
        }
    }
}

extension ConfigurationError {
    /// Creates the error about a file that the configuration names.
    ///
    /// - Parameters:
    ///   - files: the files of the entry.
    ///   - entry: the place of the entry, for an error that concerns no file.
    fileprivate init(_ error: TLSFileError, in files: [ConfiguredFile?], or entry: ConfigurationLocation?) {
        let file = files.compactMap { $0 }.first { $0.path == error.file }
        self.init("\(error)", at: file?.location ?? entry ?? ConfigurationLocation(file: error.file ?? ""))
    }
}

extension TLSMinimumVersion {
    fileprivate init(_ version: TLSVersion) {
        switch version {
        case .v1_2: self = .tls12
        case .v1_3: self = .tls13
        }
    }
}

extension TLSServerSettings {
    fileprivate init(_ options: ServerTLSOptions) {
        self.init(
            certificate: options.certificate.path, key: options.key.path, clientCA: options.clientCA?.path,
            requiresTLS: options.isRequired, minimumVersion: TLSMinimumVersion(options.minimumVersion))
    }
}

extension TLSClientSettings {
    /// - Parameter address: the address of the node, whose host is the name of the server by default.
    fileprivate init(_ options: ClientTLSOptions, for address: HostAddress) {
        var name = options.name
        if name == nil, case .tcp(let host, port: _) = address { name = host }
        self.init(
            ca: options.ca?.path, certificate: options.certificate?.path, key: options.key?.path, serverName: name,
            minimumVersion: TLSMinimumVersion(options.minimumVersion))
    }
}
