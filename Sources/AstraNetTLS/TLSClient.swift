public import AstraNet
internal import NIOConcurrencyHelpers
public import NIOCore
internal import NIOSSL

/// TLS for connections to other nodes.
///
/// ``use(_:)`` replaces certificate, key and CAs at any time. Open connections keep theirs.
public final class TLSClient: LinkSecurity {
    /// Loaded settings. Loading is a step of its own, so that a reload of several connections is all or nothing.
    ///
    /// Two values are equal if settings, certificates and CAs are the same, byte by byte.
    public struct Loaded: Sendable, Equatable {
        /// The settings.
        public let settings: TLSClientSettings
        /// The certificate of this client; `nil` if it has none.
        public let certificate: CertificateSummary?
        /// The CAs that servers are verified with. Empty if they are the system's.
        public let authorities: [CertificateSummary]

        let context: NIOSSLContext
        let chain: [NIOSSLCertificate]
        let loadedAuthorities: LoadedAuthorities?
        let serverName: ServerIdentity?

        public static func == (left: Loaded, right: Loaded) -> Bool {
            left.settings == right.settings && left.chain == right.chain
                && left.loadedAuthorities?.roots == right.loadedAuthorities?.roots
        }
    }

    private let current: NIOLockedValueBox<Loaded>

    /// Loads the settings.
    ///
    /// - Throws: ``TLSFileError``.
    public convenience init(_ settings: TLSClientSettings) throws(TLSFileError) {
        try self.init(Self.load(settings))
    }

    /// Creates the security of connections from files.
    ///
    /// - Parameters:
    ///   - ca: the PEM file of the CAs that servers are verified with; `nil`: the system's CAs.
    ///   - certificate: the PEM file of this client's certificate; `nil`: none.
    ///   - key: the PEM file of the private key; needed with `certificate`.
    ///   - serverName: the DNS name or IP address that the certificate of the server must have; `nil`: any certificate
    ///     of one of the CAs is accepted.
    /// - Throws: ``TLSFileError``.
    public convenience init(
        ca: String?, certificate: String? = nil, key: String? = nil, serverName: String?
    ) throws(TLSFileError) {
        try self.init(TLSClientSettings(ca: ca, certificate: certificate, key: key, serverName: serverName))
    }

    /// Creates the security of connections.
    public init(_ loaded: Loaded) {
        current = NIOLockedValueBox(loaded)
    }

    /// Reads and checks the files. Blocks on the file system: not for event loops.
    public static func load(_ settings: TLSClientSettings) throws(TLSFileError) -> Loaded {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.setLinkDefaults(settings.minimumVersion)
        // BoringSSL verifies the chain. ``TLSLinkHandler`` verifies the name, because NIOSSL accepts the common name
        // too, and its error does not tell the names of the certificate.
        configuration.certificateVerification = .noHostnameVerification
        var serverName: ServerIdentity?
        if let name = settings.serverName {
            serverName = ServerIdentity(name)
            guard serverName != nil else {
                throw TLSFileError(
                    file: nil, problem: "the server name '\(name)' is neither a DNS name nor an IP address",
                    remedy: "give it without a port")
            }
        }
        guard serverName != nil || settings.ca != nil else {
            throw TLSFileError(
                file: nil, problem: "every certificate of the system's CAs would be accepted, whatever its name",
                remedy: "give the server name, or the file of the CAs of this mesh")
        }
        var identity: LoadedIdentity?
        switch (settings.certificate, settings.key) {
        case (let certificate?, let key?):
            let loaded = try LoadedIdentity(certificate: certificate, key: key, isServer: false)
            configuration.certificateChain = loaded.chain.map { .certificate($0) }
            configuration.privateKey = .privateKey(loaded.key)
            identity = loaded
        case (nil, nil): break
        case (let certificate?, nil):
            throw TLSFileError(file: certificate, problem: "the certificate has no key", remedy: "give its key too")
        case (nil, let key?):
            throw TLSFileError(file: key, problem: "the key has no certificate", remedy: "give its certificate too")
        }
        var authorities: LoadedAuthorities?
        if let ca = settings.ca {
            let loaded = try LoadedAuthorities(file: ca)
            configuration.trustRoots = .certificates(loaded.roots)
            authorities = loaded
        }
        return Loaded(
            settings: settings, certificate: identity?.summary, authorities: authorities?.summaries ?? [],
            context: try configuration.context(file: settings.certificate ?? settings.ca),
            chain: identity?.chain ?? [],
            loadedAuthorities: authorities, serverName: serverName)
    }

    /// Uses other certificates for all later connections.
    public func use(_ loaded: Loaded) {
        current.withLockedValue { $0 = loaded }
    }

    /// The certificates in use.
    public var loaded: Loaded { current.withLockedValue { $0 } }

    public var requiresSecurity: Bool { true }

    /// The same certificates, with any server that one of the CAs has signed. `nil` if these are the system's, which sign
    /// certificates for everybody.
    public var forDirectLinks: (any LinkSecurity)? { loaded.settings.ca == nil ? nil : DirectTLS(client: self) }

    public func addHandlers(to channel: any Channel) throws {
        let loaded = loaded
        try Self.addHandlers(to: channel, loaded, serverName: loaded.serverName)
    }

    /// Secures direct links to addresses that other nodes have told, for which no name is known.
    private struct DirectTLS: LinkSecurity {
        let client: TLSClient

        var requiresSecurity: Bool { true }
        var forDirectLinks: (any LinkSecurity)? { self }

        func addHandlers(to channel: any Channel) throws {
            try TLSClient.addHandlers(to: channel, client.loaded, serverName: nil)
        }
    }

    private static func addHandlers(to channel: any Channel, _ loaded: Loaded, serverName: ServerIdentity?) throws {
        let diagnosis = HandshakeDiagnosis(
            isServer: false, minimumVersion: loaded.settings.minimumVersion, authorities: loaded.loadedAuthorities,
            serverName: serverName)
        let tls = try NIOSSLClientHandler(
            context: loaded.context, serverHostname: serverName?.serverNameIndication)
        let operations = channel.pipeline.syncOperations
        try operations.addHandler(tls)
        try operations.addHandler(TLSLinkHandler(diagnosis, verifies: true))
    }
}
