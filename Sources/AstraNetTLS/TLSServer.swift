public import AstraNet
internal import NIOConcurrencyHelpers
public import NIOCore
internal import NIOSSL

/// TLS for the connections that a listener accepts.
///
/// ``use(_:)`` replaces certificate, key and CAs at any time. Connections that are already accepted keep theirs.
public final class TLSServer: LinkSecurity {
    /// Loaded settings. Loading is a step of its own, so that a reload of several listeners is all or nothing.
    ///
    /// Two values are equal if settings, certificates and CAs are the same, byte by byte.
    public struct Loaded: Sendable, Equatable {
        /// The settings.
        public let settings: TLSServerSettings
        /// The certificate of the listener.
        public let certificate: CertificateSummary
        /// The CAs whose certificates clients must have. Empty if clients need none.
        public let clientAuthorities: [CertificateSummary]

        let context: NIOSSLContext
        let chain: [NIOSSLCertificate]
        let authorities: LoadedAuthorities?

        public static func == (left: Loaded, right: Loaded) -> Bool {
            left.settings == right.settings && left.chain == right.chain
                && left.authorities?.roots == right.authorities?.roots
        }
    }

    private let current: NIOLockedValueBox<Loaded>

    /// Loads the settings.
    ///
    /// - Throws: ``TLSFileError``.
    public convenience init(_ settings: TLSServerSettings) throws(TLSFileError) {
        try self.init(Self.load(settings))
    }

    /// Creates the security of a listener.
    public init(_ loaded: Loaded) {
        current = NIOLockedValueBox(loaded)
    }

    /// Reads and checks the files. Blocks on the file system: not for event loops.
    public static func load(_ settings: TLSServerSettings) throws(TLSFileError) -> Loaded {
        let identity = try LoadedIdentity(certificate: settings.certificate, key: settings.key, isServer: true)
        var authorities: LoadedAuthorities?
        if let file = settings.clientCA { authorities = try LoadedAuthorities(file: file) }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: identity.chain.map { .certificate($0) }, privateKey: .privateKey(identity.key))
        configuration.setLinkDefaults(settings.minimumVersion)
        if let authorities {
            // The names of clients are matched by the access rules, not here.
            configuration.certificateVerification = .noHostnameVerification
            configuration.trustRoots = .certificates(authorities.roots)
        }
        return Loaded(
            settings: settings, certificate: identity.summary, clientAuthorities: authorities?.summaries ?? [],
            context: try configuration.context(file: settings.certificate), chain: identity.chain,
            authorities: authorities)
    }

    /// Uses other certificates for all later connections.
    public func use(_ loaded: Loaded) {
        current.withLockedValue { $0 = loaded }
    }

    /// The certificates in use.
    public var loaded: Loaded { current.withLockedValue { $0 } }

    public var requiresSecurity: Bool { loaded.settings.requiresTLS }

    /// `nil`: a listener does not dial.
    public var forDirectLinks: (any LinkSecurity)? { nil }

    public func addHandlers(to channel: any Channel) throws {
        let loaded = loaded
        let diagnosis = HandshakeDiagnosis(
            isServer: true, minimumVersion: loaded.settings.minimumVersion, authorities: loaded.authorities,
            serverName: nil)
        try channel.pipeline.syncOperations.addHandlers([
            FirstByteHandler(loaded), TLSLinkHandler(diagnosis, verifies: loaded.authorities != nil),
        ])
    }
}

extension TLSConfiguration {
    /// Sets what servers and clients have in common.
    mutating func setLinkDefaults(_ version: TLSMinimumVersion) {
        minimumTLSVersion =
            switch version {
            case .tls12: .tlsv12
            case .tls13: .tlsv13
            }
        renegotiationSupport = .none
        // A link that closes has sent everything, or has failed. A peer that does not answer must not delay the end.
        shutdownTimeout = .milliseconds(200)
        applicationProtocols = ["chanserv"]
    }

    /// Creates the context of BoringSSL.
    ///
    /// - Parameter file: the file that an error names.
    func context(file: String?) throws(TLSFileError) -> NIOSSLContext {
        do {
            return try NIOSSLContext(configuration: self)
        } catch {
            throw TLSFileError(
                file: file, problem: "TLS refuses the certificate, the key or the CAs: \(error)",
                remedy: "check the files with: chanserv certificates show")
        }
    }
}
