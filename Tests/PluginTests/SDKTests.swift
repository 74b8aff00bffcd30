import CChanservPlugin
import Foundation
import Testing

@testable import ChanservPlugin

/// A plugin that does what its request says.
private struct Probe: Plugin {
    static let name = "probe"
    static let version = "2.1"

    private let greeting: String
    private let log: Log

    init(configuration: borrowing Configuration, log: Log) throws {
        try configuration.only(["greeting", "wait", "limit", "loud", "times"])
        if try configuration.boolean("loud") == true { throw PluginError(.notFound, "loud is not supported") }
        let wait = try configuration.duration("wait") ?? .zero
        let limit = try configuration.size("limit") ?? 0
        let times = try configuration.integer("times") ?? 1
        greeting = try "\(configuration.string("greeting") ?? "hello") \(wait) \(limit) \(times)"
        self.log = log
        log.info("made")
    }

    func stop() { log.info("stopped") }

    func serve(_ request: ChanservPlugin.Request, to sources: SourceWriter) async throws {
        switch request.text {
        case "greeting":
            let greeting = greeting
            try await sources.add(Source(header: "header") { try await $0.write(greeting) })
        case "many sources":
            for number in 0..<1000 {
                try await sources.add(Source(header: "\(number)") { try await $0.write("of \(number)") })
            }
        case "many frames":
            let frames = (0..<20_000).map { Array("frame \($0)".utf8) }
            let sequence = AsyncStream<[UInt8]> { continuation in
                frames.forEach { continuation.yield($0) }
                continuation.finish()
            }
            try await sources.add(Source(header: [], frames: sequence))
        case "sizes":
            try await sources.add(
                Source(header: "") { frames in
                    for size in [0, 1, 300_000, 0, 5_000_000, 200_000, 100_000] {
                        try await frames.write([UInt8](repeating: 7, count: size))
                    }
                })
        case "made in place":
            try await sources.add(
                Source(header: "") { frames in
                    for size in [1, 3, 300_000, 5_000_000, 64] {
                        // Writes fewer bytes than were reserved, between frames that are copied.
                        try await frames.write(upTo: size + 10) { room in
                            room.append(repeating: UInt8(size % 251), count: size, as: UInt8.self)
                        }
                        let copied = [UInt8](repeating: UInt8(size % 251), count: size)
                        try await frames.write(copied.span.bytes)
                        try await frames.write(copied[...])
                    }
                    try await frames.write(upTo: 0) { _ in }
                })
        case "fails in place":
            try await sources.add(
                Source(header: "") { [log] frames in
                    try await frames.write("before")
                    try await frames.write(upTo: 100) { _ in throw PluginError(.busy, "not now") }
                    do {
                        while true { try await frames.write([UInt8](repeating: 0, count: 1000)) }
                    } catch {
                        log.info("\(type(of: error))")
                        throw error
                    }
                })
        case "lent":
            let log = log
            try await sources.add(
                Source(header: "") { frames in
                    let shared = FrameBuffer([UInt8](repeating: 9, count: 20_000))
                    for _ in 0..<3 { try await frames.lend(shared) }
                    let made = FrameBuffer(capacity: 100) { $0.append(repeating: 5, count: 10, as: UInt8.self) }
                    try await frames.lend(made)
                    try await frames.write("between")
                    try await frames.lend(FrameBuffer([]))
                    let owner = Owner(log)
                    try await frames.lend(owner.bytes, owner: owner)
                })
        case "context":
            let text =
                "\(request.meta ?? "none") \(request.bucket ?? "none") \(request.traceParent ?? "none") "
                + "'\(request.peerAddress)' '\(request.identity)' "
                + (request.deadline.map { $0 > .now ? "later" : "over" } ?? "none")
            try await sources.add(Source(header: "") { try await $0.write(text) })
        case "too large":
            try await sources.add(
                Source(header: "") { try await $0.write([UInt8](repeating: 0, count: 104_857_601)) })
        case "endless":
            let log = log
            try await sources.add(
                Source(header: "") { frames in
                    var written = 0
                    do {
                        while true {
                            try await frames.write([UInt8](repeating: 0, count: 1000))
                            written += 1
                        }
                    } catch {
                        log.info("\(type(of: error)) after \(written)")
                        throw error
                    }
                })
        case "fails late":
            try await sources.add(
                Source(header: "") { frames in
                    try await frames.write("before")
                    throw PluginError(.busy, "come back later")
                })
            throw Complaint()
        case "asleep":
            try await sources.add(Source(header: "") { _ in try await Task.sleep(for: .seconds(3600)) })
            try await Task.sleep(for: .seconds(3600))
        case "given up":
            // The plugin cancels a waiting write itself. This ends only the wait.
            try await sources.add(
                Source(header: "") { frames in
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask { while true { try await frames.write([UInt8](repeating: 0, count: 1000)) } }
                        group.cancelAll()
                        do { try await group.waitForAll() } catch is CancellationError {}
                    }
                    try await frames.write("after")
                })
        default:
            throw PluginError(.badRequest, "what is \(request.text)?")
        }
    }
}

/// Memory that a plugin manages itself.
private final class Owner: Sendable {
    nonisolated(unsafe) let bytes: UnsafeRawBufferPointer
    private let log: Log

    init(_ log: Log) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 3, alignment: 1)
        memory.copyBytes(from: [1, 2, 3])
        bytes = UnsafeRawBufferPointer(memory)
        self.log = log
    }

    deinit {
        bytes.deallocate()
        log.info("released")
    }
}

private struct Complaint: Error, CustomStringConvertible {
    let description = "complaint: \u{0}" + String(repeating: "é", count: 500)
}

private struct Second: Plugin {
    static let name = "second"
    static let version = "1"
    init(configuration: borrowing Configuration, log: Log) throws {}
    func serve(_ request: ChanservPlugin.Request, to sources: SourceWriter) async throws {}
}

@Suite struct SDKTests {
    private func onProbe<Result: Sendable>(
        _ configuration: [String: ConfigurationValue] = [:],
        _ body: @escaping @Sendable (PluginTests.Instance) throws -> Result
    ) async throws -> Result {
        try await onThread {
            let descriptor = try #require(Probe.descriptor).pointee
            return try body(PluginTests.Instance(descriptor, configuration))
        }
    }

    @Test func `the descriptor has the values of the ABI`() async throws {
        try await onThread {
            let descriptor = try #require(Probe.descriptor)
            #expect(descriptor == Probe.descriptor)
            let magic = withUnsafeBytes(of: descriptor.pointee.magic) { String(decoding: $0, as: UTF8.self) }
            #expect(magic == "CHSP")
            #expect(descriptor.pointee.struct_size == 104)
            #expect(String(cString: descriptor.pointee.name) == "probe")
            #expect(String(cString: descriptor.pointee.version) == "2.1")
            // A library exports one plugin.
            #expect(Second.descriptor == nil)
        }
    }

    @Test func `configuration values are read with their types`() async throws {
        try await onProbe([
            "greeting": .string("grüezi"), "wait": .duration(nanoseconds: 1_500_000_000), "limit": .size(65536),
            "times": .integer(-3),
        ]) { instance in
            let sources = try instance.sources("greeting")
            #expect(sources.map { text([$0.header]) } == [["header"]])
            #expect(try text(sources[0].frames()) == ["grüezi 1.5 seconds 65536 -3"])
            #expect(instance.host.log == ["made"])
        }
        try await onProbe { instance in
            let frames = try instance.sources("greeting")[0].frames()
            #expect(text(frames) == ["hello 0.0 seconds 0 1"])
        }
    }

    @Test(
        arguments: [
            (["lout": .boolean(true)], -1, "unknown key lout"), (["wait": .integer(1)], -1, "a value of another type"),
            (["loud": .boolean(true)], -2, "loud is not supported"),
        ] as [([String: ConfigurationValue], chanserv_status, String)])
    func `a wrong configuration is refused`(
        configuration: [String: ConfigurationValue], status: chanserv_status, message: String
    ) async throws {
        let refusal = try await #require(throws: Refusal.self) {
            try await onProbe(configuration) { _ in }
        }
        #expect(refusal.status == status)
        #expect(refusal.message == message)
    }

    @Test(arguments: [1, 10, .max]) func `sources arrive complete and in order`(limit: Int) async throws {
        try await onProbe { instance in
            let (sources, last) = try instance.open("many sources").collect(limit: limit)
            #expect(last.status == end)
            #expect(text(sources.map(\.header)) == (0..<1000).map { "\($0)" })
            for (number, source) in sources.enumerated() { #expect(try text(source.frames()) == ["of \(number)"]) }
        }
    }

    @Test(arguments: [1, 100, .max]) func `frames arrive complete and in order`(limit: Int) async throws {
        try await onProbe { instance in
            let frames = try instance.sources("many frames")[0].frames(Room(frames: limit))
            #expect(text(frames) == (0..<20_000).map { "frame \($0)" })
        }
    }

    @Test func `frames of all sizes are sent through a small sink`() async throws {
        try await onProbe { instance in
            let frames = try instance.sources("sizes")[0].frames(Room(bytes: 1))
            #expect(frames.map(\.count) == [0, 1, 300_000, 0, 5_000_000, 200_000, 100_000])
            #expect(frames.allSatisfy { $0.allSatisfy { $0 == 7 } })
        }
    }

    @Test(arguments: [1, 65_536, .max]) func `frames are written directly into the buffer of the host`(room: Int)
        async throws
    {
        try await onProbe { instance in
            let source = try instance.sources("made in place")[0]
            let frames = try source.frames(Room(bytes: room))
            let expected = [1, 3, 300_000, 5_000_000, 64].flatMap { [$0, $0, $0] }
            #expect(frames.map(\.count) == expected + [0])
            #expect(zip(frames, expected).allSatisfy { frame, size in frame.allSatisfy { $0 == size % 251 } })
        }
    }

    @Test(arguments: [false, true]) func `lent frames arrive in order and their owners are released once`(
        isVersion10: Bool
    ) async throws {
        try await onProbe { probe in
            let expected =
                Array(repeating: [UInt8](repeating: 9, count: 20_000), count: 3)
                + [[UInt8](repeating: 5, count: 10), Array("between".utf8), [], [1, 2, 3]]
            for room in [Room(isVersion10: isVersion10), Room(frames: 1, isVersion10: isVersion10)] {
                let source = try probe.sources("lent")[0]
                #expect(try source.frames(room) == expected)
            }
            probe.releaseLent()
            try probe.host.wait { $0.filter { $0 == "released" }.count == 2 }
        }
    }

    @Test func `an owner is retained while the host uses the frame, also after the source was closed`() async throws {
        try await onProbe { probe in
            var source: PluginTests.Stream? = try probe.sources("lent")[0]
            var frames: [[UInt8]] = []
            while frames.last != [1, 2, 3] {
                let answer = try #require(source).poll(.one)
                #expect(answer.lent == (answer.items.isEmpty || answer.items == [Array("between".utf8)] ? 0 : 1))
                frames += answer.items
                if answer.status == pending, frames.last != [1, 2, 3] { try #require(source).wakeSignal.wait() }
            }
            source = nil
            #expect(!probe.host.log.contains("released"))
            probe.releaseLent()
            try probe.host.wait { $0.contains("released") }
        }
    }

    @Test func `a request has the context of the client, which a host of version 1.0 does not provide`() async throws {
        try await onProbe { probe in
            func answer(_ context: Context?) throws -> String {
                let source = try #require(try probe.open("context", context).collect().sources.first)
                return try text(source.frames())[0]
            }
            let full = Context(
                deadline: 3_600_000_000_000, meta: "m", bucket: "b", traceparent: "t", peerAddress: "1.2.3.4:5",
                identity: "i")
            let answers = try [full, Context(deadline: 0), Context(), nil].map(answer)
            #expect(
                answers == [
                    "m b t '1.2.3.4:5' 'i' later", "none none none '' '' over", "none none none '' '' none",
                    "none none none '' '' none",
                ])
        }
    }

    @Test func `an error while a frame is written in place ends the source`() async throws {
        try await onProbe { instance in
            let (frames, last) = try instance.sources("fails in place")[0].collect()
            #expect(text(frames) == ["before"])
            #expect(last.status == chanserv_status(CHANSERV_ERROR_BUSY))
            #expect(last.message == "not now")
            // Later writes fail with a CancellationError.
            _ = try instance.host.waitForLine { $0 == "CancellationError" }
        }
    }

    @Test func `a destroyed instance is stopped`() async throws {
        let host = try await onThread {
            let instance = try PluginTests.Instance(#require(Probe.descriptor).pointee)
            return instance.host
        }
        #expect(host.log == ["made", "stopped"])
    }

    @Test func `a frame above the maximum size is an error`() async throws {
        try await onProbe { instance in
            let last = try instance.sources("too large")[0].collect().last
            #expect(last.status == internalError)
            #expect(last.message == "a frame of 104857601 bytes is larger than 100 MiB")
        }
    }

    @Test func `a producer waits while the host does not poll`() async throws {
        try await onProbe { instance in
            let source = try instance.sources("endless")[0]
            var answer = source.poll(.one)
            while answer.items.isEmpty {
                try source.wakeSignal.wait()
                answer = source.poll(.one)
            }
            source.cancel()
            // The plugin logs the number of written frames when its wait ends. The queues limit it.
            let line = try instance.host.waitForLine { $0.hasPrefix("CancellationError after ") }
            let written = try #require(Int(line.dropFirst("CancellationError after ".count)))
            #expect(written <= 2 * 262)
            #expect(source.poll().status == internalError)
        }
    }

    @Test func `a failure arrives after the frames that were sent before`() async throws {
        try await onProbe { instance in
            let (sources, last) = try instance.open("fails late").collect()
            #expect(last.status == internalError)
            #expect(last.message.hasPrefix("complaint: \u{FFFD}éé"))
            // Truncated between characters; the limit is 255 bytes.
            #expect(last.message.utf8.count == 254)
            let (frames, failure) = try sources[0].collect()
            #expect(text(frames) == ["before"])
            #expect(failure.status == chanserv_status(CHANSERV_ERROR_BUSY))
            #expect(failure.message == "come back later")
            let refusal = try #require(throws: Refusal.self) { try instance.sources("nonsense") }
            #expect(refusal.status == badRequest)
            #expect(refusal.message == "what is nonsense?")
        }
    }

    @Test func `cancelling ends waits and wakes the host`() async throws {
        try await onProbe { instance in
            let call = try instance.open("asleep")
            var sources = call.poll().items
            while sources.isEmpty {
                try call.wakeSignal.wait()
                sources = call.poll().items
            }
            #expect(call.poll().status == pending)
            call.cancel()
            try call.wakeSignal.wait()
            #expect(call.poll().status == internalError)
            let source = try #require(sources.first)
            #expect(source.poll().status == pending)
            source.cancel()
            source.cancel()
            try source.wakeSignal.wait()
            let answer = source.poll()
            #expect(answer.status == internalError)
            #expect(answer.message == "cancelled")
        }
    }

    @Test func `a waiting write ends when the plugin cancels its task`() async throws {
        try await onProbe { instance in
            let frames = try instance.sources("given up")[0].frames(Room(bytes: .max))
            #expect(text(frames).last == "after")
        }
    }

    @Test func `calls and sources can be closed before their end`() async throws {
        try await onProbe { instance in
            for request in ["asleep", "endless", "many sources", "many frames"] {
                for polls in 0..<4 {
                    let call = try instance.open(request)
                    for _ in 0..<polls {
                        for source in call.poll(limit: 3).items { _ = source.poll(.one) }
                    }
                }
            }
        }
    }
}

/// The state machine without its tasks: which writes wake the host, and which wait.
@Suite struct PipeStateTests {
    private typealias Machine = PipeState<FrameQueue>

    private func write(_ frame: [UInt8], to machine: inout Machine) -> String {
        name(machine.write(size: frame.count) { $0.append(sharing: frame) })
    }

    private func name(_ action: Machine.WriteAction) -> String {
        switch action {
        case .accepted: "accepted"
        case .acceptedAndWake(let handle): "wake \(handle)"
        case .full: "full"
        case .cancelled: "cancelled"
        }
    }

    private func name(_ action: Machine.TakeAction) -> String {
        switch action {
        case .drain: "drain"
        case .wait: "wait"
        case .end: "end"
        case .fail(let error): error.message
        }
    }

    @Test func `a waiting host is woken once`() {
        var machine = Machine()
        var queue = FrameQueue()
        #expect(write([1], to: &machine) == "accepted")
        #expect(name(machine.take(into: &queue, wake: 9)) == "drain")
        queue.drain(take: { _ in true }, lend: { _, _ in true }, fill: { _, _ in true })
        #expect(name(machine.take(into: &queue, wake: 9)) == "wait")
        #expect(write([1], to: &machine) == "wake 9")
        #expect(write([1], to: &machine) == "accepted")
        #expect(machine.finish(.success(())) == nil)
        #expect(name(machine.take(into: &queue, wake: 9)) == "drain")
        queue.drain(take: { _ in true }, lend: { _, _ in true }, fill: { _, _ in true })
        #expect(name(machine.take(into: &queue, wake: 9)) == "end")
    }

    @Test func `the end of the task wakes a waiting host`() {
        var machine = Machine()
        var queue = FrameQueue()
        #expect(name(machine.take(into: &queue, wake: 9)) == "wait")
        #expect(machine.finish(.failure(PluginError(.busy, "busy"))) == 9)
        #expect(name(machine.take(into: &queue, wake: 9)) == "busy")
        #expect(machine.cancel() == nil)
        #expect(name(machine.take(into: &queue, wake: 9)) == "cancelled")
    }

    @Test func `a full queue rejects items until it is taken`() {
        var machine = Machine()
        var queue = FrameQueue()
        #expect(write([UInt8](repeating: 0, count: 1_000_000), to: &machine) == "accepted")
        #expect(!machine.isFull)
        #expect(write([], to: &machine) == "full")
        #expect(machine.isFull)
        #expect(name(machine.take(into: &queue, wake: 9)) == "drain")
        #expect(!machine.isFull)
        for _ in 0..<1024 { #expect(write([], to: &machine) == "accepted") }
        #expect(write([], to: &machine) == "full")
    }

    @Test func `after a cancellation no task starts and no item is accepted`() {
        var machine = Machine()
        #expect(machine.cancel() == nil)
        let afterCancel = machine.start()
        #expect(!afterCancel)
        #expect(write([], to: &machine) == "cancelled")
        var other = Machine()
        let starts = [other.start(), other.start()]
        #expect(starts == [true, false])
    }
}
