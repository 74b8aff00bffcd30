import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import Foundation
import HostConfiguration
import Logging
import NIOConcurrencyHelpers
import NIOCore
import TestSupport
import Testing

typealias Isolation = IsolationOptions.Isolation

/// A host on real sockets with the streamer plugin, and its clients.
final class HostFixture: Sendable {
    let folder: TestFolder
    let log = RecordingLog()
    let host: PluginHost
    private let isolation: Isolation
    private let defaults: String
    /// The path of the `chanserv` program, if the host needs it for workers or preflights.
    private let program: String?

    /// - Parameters:
    ///   - isolation: where plugins run. Default: in the host.
    ///   - preflight: whether the host runs a preflight for libraries. Off by default, because it takes time.
    ///   - network: makes the network of the host. Default: a real node.
    init(
        _ isolation: Isolation = .host, preflight: Bool = false,
        network: (@Sendable (HostConfiguration.Node, Logger) -> any HostNetwork)? = nil
    ) throws {
        folder = try TestFolder()
        defaults = "defaults: {isolation: \(isolation.rawValue), preflight: \(preflight)}"
        self.isolation = isolation
        program = isolation == .process || preflight ? ChanservCommand.buildFolder + "/chanserv" : nil
        host =
            if let network {
                PluginHost(
                    configurationFile: folder.file("chanserv.yaml"), logger: log.logger, program: program,
                    network: network)
            } else {
                PluginHost(
                    configurationFile: folder.file("chanserv.yaml"), logger: log.logger, program: program)
            }
    }

    // MARK: Files

    /// Writes the configuration file.
    ///
    /// - Parameters:
    ///   - plugins: lines under `plugins:`.
    ///   - routes: lines under `routes:`.
    ///   - top: lines before both. Default: the host listens on any free port.
    func configure(
        plugins: String = "a: {path: a.so}", routes: String = "- {vaddr: stream, plugin: a}",
        top: String = "node: {listen: \"127.0.0.1:0\"}"
    ) throws {
        func indented(_ text: String) -> String { text.split(separator: "\n").map { "  \($0)\n" }.joined() }
        try write("chanserv.yaml", "\(top)\n\(defaults)\nplugins:\n\(indented(plugins))routes:\n\(indented(routes))")
    }

    func write(_ name: String, _ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: folder.file(name)))
        try #require(chmod(folder.file(name), 0o644) == 0)
    }

    /// The compiled streamers, by their compiler options.
    private static let compiled = NIOLockedValueBox<[[String]: Data]>([:])

    private static func streamer(_ version: String, _ options: [String]) throws -> Data {
        var bytes = try compiled.withLockedValue { compiled in
            if let bytes = compiled[options] { return bytes }
            let folder = try TestFolder()
            try CompiledPlugin.compile(streamerSource, to: folder.file("a.so"), options: options)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: folder.file("a.so")))
            compiled[options] = bytes
            return bytes
        }
        let placeholder = try #require(bytes.firstRange(of: Data(repeating: UInt8(ascii: "@"), count: 15)))
        let text = Data(version.utf8)
        bytes.replaceSubrange(placeholder, with: text + Data(repeating: 0, count: placeholder.count - text.count))
        return bytes
    }

    /// How a library file is replaced.
    enum Replacement: CaseIterable {
        /// A new file is moved to the name.
        case move
        /// The existing file is overwritten in place.
        case overwrite
        /// The existing file is truncated to zero, then written.
        case truncate
    }

    /// Installs a version of the streamer at `name`.
    func install(
        _ version: String, as name: String = "a.so", options: [String] = [], by replacement: Replacement = .move
    ) throws {
        let new = folder.file("new-\(UUID()).so")
        try Self.streamer(version, options).write(to: URL(fileURLWithPath: new))
        try replace(name, with: new, by: replacement)
    }

    func replace(_ name: String, with new: String, by replacement: Replacement) throws {
        let file = folder.file(name)
        switch replacement {
        case .move: try #require(rename(new, file) == 0)
        case .overwrite, .truncate:
            let bytes = try Data(contentsOf: URL(fileURLWithPath: new))
            let descriptor = open(file, O_WRONLY | (replacement == .truncate ? O_TRUNC : 0))
            try #require(descriptor >= 0)
            defer { close(descriptor) }
            let written = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            try #require(written == bytes.count)
            try #require(ftruncate(descriptor, off_t(bytes.count)) == 0)
        }
    }

    /// Checks how often plugins have logged `text`. For plugins in workers it waits, because their lines arrive later.
    func expectLogged(_ text: String, times: Int, sourceLocation: SourceLocation = #_sourceLocation) async {
        if isolation == .process { await log.wait(for: text, count: times, sourceLocation: sourceLocation) }
        #expect(log.count(of: text) == times, sourceLocation: sourceLocation)
    }

    /// The warnings of `check` for the configuration file.
    func check() async throws(HostError) -> [String] {
        try await PluginHost.check(
            configurationFile: folder.file("chanserv.yaml"), logger: log.logger, program: program)
    }

    // MARK: Requests

    /// The port of the first listener of the host.
    var port: Int {
        get async throws {
            let address = try #require(await host.status.listening.first)
            return try #require(HostAddress(address).port)
        }
    }

    /// Starts a node that is linked with the host.
    func connect() async throws -> Node {
        let node = Node()
        try await node.join(host: "127.0.0.1", port: port, deadline: .now + .seconds(20))
        return node
    }

    /// Runs `body` with a client of the host.
    func withClient(_ body: (Client) async throws -> Void) async throws {
        let node = try await connect()
        do {
            try await body(Client(multiplexer: AstraNetMultiplexer(node)))
        } catch {
            await node.shutdown()
            throw error
        }
        await node.shutdown()
    }

    /// Starts the host, runs `body` with a client, and shuts the host down.
    func serving(_ body: (Client) async throws -> Void) async throws {
        try await host.start()
        do {
            try await withClient(body)
        } catch {
            await host.shutdown(drain: .zero)
            throw error
        }
        await host.shutdown(drain: .zero)
    }
}

extension Client {
    /// Posts a request and returns its first source.
    func source(_ vAddr: String = "stream", _ body: String) async throws -> ReceivedSource {
        var sources = try await lookupAndPost(vAddr, body: body).makeAsyncIterator()
        return try #require(try await sources.next())
    }

    /// The version of the streamer that answers now.
    func version(_ vAddr: String = "stream") async throws -> String {
        try await stream(vAddr, count: 0)
    }

    /// Reads a stream of `count` frames to its end and checks that it is whole and of one version.
    ///
    /// - Returns: the version.
    @discardableResult
    func stream(_ vAddr: String = "stream", count: Int) async throws -> String {
        let source = try await source(vAddr, "stream \(count)")
        return try await source.expectStream(from: 0, count: count)
    }
}

extension ReceivedSource {
    /// Reads to the end and checks that the frames are complete, in order and of the version in the header.
    ///
    /// - Returns: the version.
    @discardableResult
    func expectStream(from first: Int, count: Int) async throws -> String {
        let version = String(buffer: header)
        var frames = frames.makeAsyncIterator()
        for index in first..<count {
            let frame = try await frames.next()
            // The macro costs more time than a frame.
            if frame?.string != "\(version) \(index)" { try #require(frame?.string == "\(version) \(index)") }
        }
        let end = try await frames.next()
        #expect(end == nil)
        return version
    }
}
