/// An entry of `node.listen`.
public struct ListenOptions: Sendable, Hashable {
    /// The address to listen at (`address`).
    public var address: HostAddress
    /// TLS for the links that are accepted (`tls`); `nil`, the default, for none.
    public var tls: ServerTLSOptions?
    /// The permissions of the file of a Unix socket (`mode`). Users who may write to it can connect. `0600` by default:
    /// only the user of the host and root.
    public var mode: UInt32 = Self.defaultMode
    /// The position of the entry; `nil` for an address that no file has.
    @NotCompared public var location: ConfigurationLocation? = nil

    /// The default of ``mode``.
    public static let defaultMode: UInt32 = 0o600

    public init(_ address: HostAddress, tls: ServerTLSOptions? = nil, location: ConfigurationLocation? = nil) {
        self.address = address
        self.tls = tls
        self.location = location
    }
}

/// An entry of `node.join`.
public struct JoinOptions: Sendable, Hashable {
    /// The address of the node (`address`).
    public var address: HostAddress
    /// TLS for the link (`tls`); `nil`, the default, for none.
    public var tls: ClientTLSOptions?
    /// The position of the entry; `nil` for an address that no file has.
    @NotCompared public var location: ConfigurationLocation? = nil

    public init(_ address: HostAddress, tls: ClientTLSOptions? = nil, location: ConfigurationLocation? = nil) {
        self.address = address
        self.tls = tls
        self.location = location
    }
}

/// TLS of a listener.
public struct ServerTLSOptions: Sendable, Hashable {
    /// The certificate chain in PEM, the host's own certificate first (`certificate`).
    public var certificate: ConfiguredFile
    /// The private key of the certificate in PEM (`key`).
    public var key: ConfiguredFile
    /// The certificates in PEM that sign those of clients (`client_ca`). `nil`, the default, asks for no client
    /// certificate.
    public var clientCA: ConfiguredFile?
    /// Whether connections without TLS are refused (`require`). `true` by default. Otherwise the listener accepts both.
    public var isRequired = true
    /// The lowest version that is accepted (`min_version`). 1.3 by default.
    public var minimumVersion = TLSVersion.v1_3

    public init(certificate: ConfiguredFile, key: ConfiguredFile) {
        self.certificate = certificate
        self.key = key
    }
}

/// TLS of a link to a node that is joined.
public struct ClientTLSOptions: Sendable, Hashable {
    /// The certificates in PEM that sign that of the node (`ca`). `nil`, the default, for those of the system.
    public var ca: ConfiguredFile?
    /// The certificate chain in PEM that is shown to the node (`certificate`). None by default.
    public var certificate: ConfiguredFile?
    /// The private key of the certificate in PEM (`key`). Set if and only if ``certificate`` is.
    public var key: ConfiguredFile?
    /// The name that the certificate of the node must have (`name`). `nil`, the default, for the host of the address.
    public var name: String?
    /// The lowest version that is accepted (`min_version`). 1.3 by default.
    public var minimumVersion = TLSVersion.v1_3

    public init() {}
}

/// A version of TLS.
public enum TLSVersion: String, Sendable, Hashable, CaseIterable {
    case v1_2 = "1.2"
    case v1_3 = "1.3"
}

/// A file that the configuration names.
public struct ConfiguredFile: Sendable, Hashable {
    /// The absolute path.
    public var path: String
    /// The position of the path, for errors about the file.
    @NotCompared public var location: ConfigurationLocation

    public init(path: String, location: ConfigurationLocation) {
        self.path = path
        self.location = location
    }
}
