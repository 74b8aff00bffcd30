import AstraNet
import Chanserv
import Logging

extension ContinuousClock.Instant {
    /// Later than anything that works, also on a machine that has much else to do.
    static var soon: Self { .now + .seconds(90) }
}

extension NodeConfiguration {
    /// No limits of time: where a test is about none, a machine that has much else to do must not bring one in.
    static func patient(environment: String = "") -> NodeConfiguration {
        var configuration = NodeConfiguration(environment: environment)
        configuration.handshakeTimeout = .seconds(3_600)
        configuration.silenceTimeout = .seconds(3_600)
        configuration.stalledWriteTimeout = .seconds(3_600)
        configuration.openTimeout = .seconds(3_600)
        return configuration
    }
}

extension Node {
    /// A node without limits of time and without a word in the log.
    static func patient(_ configure: (inout NodeConfiguration) -> Void = { _ in }) -> Node {
        var configuration = NodeConfiguration.patient()
        configure(&configuration)
        return Node(configuration: configuration, logger: .silent)
    }
}

extension Server.Configuration {
    static var patient: Server.Configuration {
        var configuration = Server.Configuration()
        configuration.chanAcceptTimeout = .seconds(3_600)
        return configuration
    }
}

extension Client.Configuration {
    static var patient: Client.Configuration {
        var configuration = Client.Configuration()
        configuration.dialTimeout = .seconds(3_600)
        return configuration
    }
}

extension Logger {
    /// For tests in which much is meant to go wrong.
    static let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
}
