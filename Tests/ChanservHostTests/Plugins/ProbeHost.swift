import Chanserv
import Foundation
import Logging
import NIOCore
import Testing

@testable import ChanservHost

/// The host's side of the probe plugin: a store, threads, instances, and requests whose frames are collected.
final class ProbeHost: Sendable {
    let folder: TestFolder
    let log = RecordingLog()
    let threads: PluginThreads
    let store: PluginStore

    init(threads limit: Int = 4) throws {
        folder = try TestFolder()
        threads = PluginThreads(name: "shared", limit: limit)
        store = PluginStore(threads: threads, logger: log.logger)
    }

    deinit { threads.retire() }

    /// Compiles the probe.
    ///
    /// - Parameter flags: of the descriptor, e.g. `CHANSERV_PLUGIN_SERIAL`.
    @discardableResult
    func compile(_ name: String = "probe.so", flags: String = "0", version: String = "1") throws -> String {
        try CompiledPlugin.compile(
            probeSource, to: folder.file(name), options: ["-DFLAGS=\(flags)", "-DVERSION=\"\(version)\""])
        return folder.file(name)
    }

    /// Compiles the probe with the header of version 1.0.
    func compileWithABI10() throws -> String {
        // Found before that of the package, because it is in the folder of the source.
        try Data(abi10Header.utf8).write(to: URL(fileURLWithPath: folder.file("chanserv_plugin.h")))
        try CompiledPlugin.compile(probeSource, to: folder.file("old.so"), options: ["-DABI_1_0"])
        return folder.file("old.so")
    }

    func instance(
        of path: String? = nil, flags: String = "0", yaml: String = "", callBudget: Duration = .seconds(60),
        lifeBudget: Duration = .seconds(60), blockingThreads: Int = 16, lentBytesLimit: Int = LentFrames.bytesLimit
    ) async throws -> PluginInstance {
        let path = try path ?? compile(flags: flags)
        var configuration = PluginInstance.Configuration()
        configuration.callBudget = callBudget
        configuration.lifeBudget = lifeBudget
        configuration.blockingThreads = blockingThreads
        configuration.lentBytesLimit = lentBytesLimit
        return try await PluginInstance.create(
            name: "probe", library: store.load(path), values: PluginConfiguration(yaml: yaml), threads: threads,
            logger: log.logger, configuration: configuration)
    }
}

extension PluginInstance {
    /// A request of the probe's, as from a client.
    func open(_ command: String, context: RequestContext = RequestContext()) async throws -> PluginSources {
        let addresses = ConnectionAddresses(local: "here:1", remote: "there:2", network: "test")
        return try await open(
            Request(
                body: ByteBuffer(string: command), vAddr: "probe", meta: SourceMeta(addresses), context: context))
    }

    /// The only source of a request.
    func source(_ command: String) async throws -> any FrameProducer {
        var iterator = try await open(command).makeAsyncIterator()
        let source = try #require(try await iterator.next())
        let rest = try await iterator.next()
        #expect(rest == nil)
        return source.producer
    }

    /// The frames of the only source of a request.
    func frames(_ command: String, target: Int = 65_536) async throws -> [ByteBuffer] {
        try await source(command).drain(target: target)
    }

    /// The same as text.
    func texts(_ command: String, target: Int = 65_536) async throws -> [String] {
        try await frames(command, target: target).map { String(buffer: $0) }
    }

    /// What the probe counted.
    func probeCounts() async throws -> [String: Int] {
        let text = try #require(try await texts("stats").first)
        let pairs = text.split(separator: " ").map { $0.split(separator: "=") }
        return Dictionary(uniqueKeysWithValues: pairs.map { (String($0[0]), Int($0[1]) ?? -1) })
    }

    func retireNow() async -> Retirement { await retire(deadline: .now, grace: .seconds(50)) }
}

extension FrameProducer {
    /// All frames to the end; closes the producer whatever happens.
    func drain(target: Int = 65_536) async throws -> [ByteBuffer] {
        defer { close() }
        var frames: [ByteBuffer] = []
        var more = true
        while more {
            var batch = FrameBatch(target: target)
            more = try await produce(into: &batch)
            frames += batch.takeFrames()
        }
        return frames
    }
}

extension FrameBatch {
    /// The payloads in it.
    mutating func takeFrames() -> [ByteBuffer] {
        var bytes = take()
        var frames: [ByteBuffer] = []
        while let size = bytes.readInteger(endianness: .little, as: UInt64.self) {
            guard let frame = bytes.readSlice(length: Int(size)) else {
                Issue.record("a batch ends within a frame")
                break
            }
            frames.append(frame)
        }
        return frames
    }
}
