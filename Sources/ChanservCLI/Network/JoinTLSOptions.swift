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
    var own: ClientTLSOptions? { isGiven ? options(over: ClientTLSOptions()) : nil }

    /// Returns options with those of the command line in the place of others.
    private func options(over others: ClientTLSOptions) -> ClientTLSOptions {
        var options = others
        if let tlsCa { options.ca = Self.file(tlsCa, "--tls-ca") }
        if let tlsCert, let tlsKey {
            options.certificate = Self.file(tlsCert, "--tls-cert")
            options.key = Self.file(tlsKey, "--tls-key")
        }
        options.name = serverName ?? options.name
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
            for (index, join) in joins.enumerated() {
                // A Unix socket has no TLS.
                guard case .tcp = join.address else { continue }
                let configured = join.tls ?? client.tls
                joins[index].tls = isGiven ? options(over: configured ?? ClientTLSOptions()) : configured
            }
            return JoinTargets(joins: joins, security: HostSecurity(try HostSecurity.read(joins: joins)))
        } catch {
            for problem in error.errors { StandardError.write("chanserv: \(problem)") }
            throw ExitCode(HostError.Code.badConfiguration.exitCode)
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
