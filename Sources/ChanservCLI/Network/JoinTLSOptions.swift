import ArgumentParser
import ChanservHost
import Glibc
import HostConfiguration

/// The options of commands that join nodes: TLS.
///
/// What the command line does not say comes from `client.yaml`.
struct JoinTLSOptions: ParsableArguments {
    @Flag(help: "Use TLS, with the system's CAs unless --tls-ca is given. The other options imply it.")
    var tls = false

    @Option(
        help: ArgumentHelp(
            "TLS: the CAs, in PEM, that the certificate of the node is verified with.", valueName: "file"))
    var tlsCa: String?

    @Option(help: ArgumentHelp("TLS: the certificate that is shown to the node, in PEM.", valueName: "file"))
    var tlsCert: String?

    @Option(help: ArgumentHelp("TLS: the private key of --tls-cert, in PEM.", valueName: "file"))
    var tlsKey: String?

    @Option(
        help: ArgumentHelp(
            "TLS: the name that the certificate of the node must have. (default: the host that is joined)",
            valueName: "name"))
    var serverName: String?

    func validate() throws {
        if (tlsCert == nil) != (tlsKey == nil) { throw ValidationError("--tls-cert and --tls-key need each other") }
    }

    /// Whether one of the options is given.
    var isGiven: Bool { tls || tlsCa != nil || tlsCert != nil || serverName != nil }

    /// The options of the command line; `nil` if none is given.
    var own: ClientTLSOptions? {
        guard isGiven else { return nil }
        var options = ClientTLSOptions()
        options.ca = tlsCa.map { Self.file($0, "--tls-ca") }
        options.certificate = tlsCert.map { Self.file($0, "--tls-cert") }
        options.key = tlsKey.map { Self.file($0, "--tls-key") }
        options.name = serverName
        return options
    }

    /// The place of an error is the option.
    static func file(_ path: String, _ option: String) -> ConfiguredFile {
        ConfiguredFile(path: path, location: ConfigurationLocation(file: option))
    }

    /// Returns the nodes to join with their security.
    ///
    /// - Parameters:
    ///   - given: the nodes of the command line. Without any: those of `client.yaml`, else 127.0.0.1:5555.
    ///   - usesDefault: whether nodes are joined if none is given.
    /// - Throws: an error with all problems of the files.
    func targets(_ given: [HostAddress], usesDefault: Bool = true) throws -> JoinTargets {
        do throws(ConfigurationErrors) {
            let client = try Self.clientConfiguration() ?? ClientConfiguration()
            var joins = given.map { JoinOptions($0) }
            if joins.isEmpty, usesDefault {
                joins = client.join.isEmpty ? [JoinOptions(.tcp(host: "127.0.0.1", port: 5555))] : client.join
            }
            let tls = own ?? client.tls
            for (index, join) in joins.enumerated() where join.tls == nil || isGiven {
                // A Unix socket has no TLS.
                if case .tcp = join.address { joins[index].tls = tls }
            }
            return JoinTargets(joins: joins, security: HostSecurity(try HostSecurity.read(joins: joins)))
        } catch {
            throw ValidationError(error.errors.map(\.description).joined(separator: "\n"))
        }
    }

    private static func clientConfiguration() throws(ConfigurationErrors) -> ClientConfiguration? {
        var environment: [String: String] = [:]
        for name in ["XDG_CONFIG_HOME", "HOME"] {
            if let value = getenv(name) { environment[name] = String(cString: value) }
        }
        return try ClientConfiguration.defaultFile(environment).flatMap { file throws(ConfigurationErrors) in
            try ClientConfiguration.read(file)
        }
    }
}

/// The nodes that a command joins, and what secures the links to them.
struct JoinTargets: Sendable {
    let joins: [JoinOptions]
    let security: HostSecurity

    init(joins: [JoinOptions], security: HostSecurity) {
        self.joins = joins
        self.security = security
    }

    /// One node without TLS.
    init(plain address: HostAddress) {
        self.init(joins: [JoinOptions(address)], security: HostSecurity(HostSecurity.Files()))
    }

    var addresses: [HostAddress] { joins.map(\.address) }
}
