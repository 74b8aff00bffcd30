import AstraNet
import Chanserv
import Logging

extension ContinuousClock.Instant {
    /// A deadline that only a hang reaches, even on a loaded machine.
    static var testDeadline: Self { .now + .seconds(90) }
}

extension NodeConfiguration {
    /// A configuration without timeouts, for tests that do not test them: on a loaded machine a timeout could expire.
    static func withoutTimeouts(environment: String = "") -> NodeConfiguration {
        var configuration = NodeConfiguration(environment: environment)
        configuration.handshakeTimeout = .seconds(3_600)
        configuration.silenceTimeout = .seconds(3_600)
        configuration.stalledWriteTimeout = .seconds(3_600)
        configuration.openTimeout = .seconds(3_600)
        return configuration
    }
}

extension Node {
    /// A node without timeouts that logs nothing.
    static func withoutTimeouts(_ configure: (inout NodeConfiguration) -> Void = { _ in }) -> Node {
        var configuration = NodeConfiguration.withoutTimeouts()
        configure(&configuration)
        return Node(configuration: configuration, logger: .silent)
    }
}

extension Server.Configuration {
    static var withoutTimeouts: Server.Configuration {
        var configuration = Server.Configuration()
        configuration.chanAcceptTimeout = .seconds(3_600)
        return configuration
    }
}

extension Client.Configuration {
    static var withoutTimeouts: Client.Configuration {
        var configuration = Client.Configuration()
        configuration.dialTimeout = .seconds(3_600)
        return configuration
    }
}

extension Logger {
    /// A logger without output, for tests that cause many errors.
    static let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
}
