import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import TestSupport
import Testing

/// Requests with random behaviour of client and server. The client reads what the server wrote, and no resources stay
/// in use.
@Suite(.timeLimit(.minutes(10))) struct RandomPushTests {
    /// How a server ends a source.
    private enum Ending: UInt8, CaseIterable, Sendable {
        case close, fail, abort
        /// Closes the source when the client has accepted or declined it.
        case closeOnceTaken
    }

    /// How a client reads a source.
    private enum Reading: CaseIterable { case whole, intoBuffer, first, nothing, failed }

    private struct Source: Sendable {
        var ending: Ending
        var size: Int

        static func header(_ index: Int, _ source: Source) -> ByteBuffer {
            var header = ByteBuffer()
            header.writeInteger(UInt32(index))
            header.writeInteger(UInt32(source.size))
            header.writeInteger(source.ending.rawValue)
            return header
        }

        static let headerSize = 9

        /// Computed once, because that takes long in a debug build.
        private static let pattern = ByteBuffer(
            bytes: (0..<201_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) })

        static func bytes(_ index: Int, _ count: Int) -> ByteBuffer {
            pattern.getSlice(at: index * 101, length: count)!
        }
    }

    /// Serves one request.
    private final class Serving: StreamDelegate {
        private struct Storage {
            var plan: [Source]
            var next = 0
        }

        private let storage: NIOLockedValueBox<Storage>
        private let failsAtEnd: Bool

        init(_ plan: [Source], failsAtEnd: Bool) {
            storage = NIOLockedValueBox(Storage(plan: plan))
            self.failsAtEnd = failsAtEnd
        }

        func streamChanged(_ request: AstraNet.MeshStream) {
            while true {
                let (index, source) = storage.withLockedValue { storage in
                    (storage.next, storage.next < storage.plan.count ? storage.plan[storage.next] : nil)
                }
                guard let source else {
                    if failsAtEnd { request.fail("at the end") } else { request.close() }
                    return
                }
                switch request.pushSource() {
                case .opened(let stream):
                    storage.withLockedValue { $0.next += 1 }
                    serve(stream, index, source)
                case .grantExhausted: return
                case .notGranted, .ended: return request.close()
                }
            }
        }

        private func serve(_ stream: AstraNet.MeshStream, _ index: Int, _ source: Source) {
            do {
                try stream.send(now: Source.header(index, source))
                try stream.send(now: Source.bytes(index, source.size))
            } catch {
                // The client has already closed the source.
                return stream.close()
            }
            switch source.ending {
            case .close: stream.close()
            case .fail: stream.fail("source \(index)")
            case .abort: stream.abort("source \(index)")
            case .closeOnceTaken:
                stream.setDelegate(ChangeHandler { if !$0.isUnaccepted || $0.isPeerClosed { $0.close() } })
                stream.callDelegateSoon()
            }
        }
    }

    /// Reads a source in the given way. Returns a description of an error, or `nil`.
    private static func read(_ stream: AstraNet.MeshStream, _ index: Int, _ reading: Reading) async -> String? {
        defer { if reading != .failed { stream.close() } }
        var received = ByteBuffer()
        var error: AstraNetError?
        do {
            switch reading {
            case .nothing: return nil
            case .failed:
                stream.fail("not wanted")
                return nil
            case .first:
                if let bytes = try await stream.receive(deadline: .testDeadline) { received = bytes }
            case .whole: received = try await stream.readAll()
            case .intoBuffer:
                while try await stream.receive(5_000, into: &received, deadline: .testDeadline) == 5_000 {}
            }
        } catch let failure as AstraNetError {
            error = failure
        } catch {
            return "\(error)"
        }
        guard error == nil || error?.code == .failedByPeer else { return "source \(index): \(error!)" }
        guard received.readableBytes >= Source.headerSize else {
            // The source was aborted before its header was sent.
            return error == nil ? "source \(index) has no header" : nil
        }
        let (number, size, kind) = received.readMultipleIntegers(as: (UInt32, UInt32, UInt8).self)!
        guard number == index, let ending = Ending(rawValue: kind) else { return "source \(index) is \(number)" }
        guard received == Source.bytes(index, Int(size)).getSlice(at: 0, length: received.readableBytes) else {
            return "source \(index) is not what was sent"
        }
        guard reading != .first else { return nil }
        switch ending {
        case .close, .closeOnceTaken:
            return error == nil && received.readableBytes == size
                ? nil : "source \(index) ended with \(received.readableBytes) of \(size) bytes: \(error as Any)"
        case .fail:
            return error?.message == "source \(index)" && received.readableBytes == size
                ? nil : "source \(index) failed with \(received.readableBytes) of \(size) bytes: \(error as Any)"
        case .abort: return error?.message == "source \(index)" ? nil : "source \(index) was aborted: \(error as Any)"
        }
    }

    private struct Plan {
        var sources: [Source]
        var granted: Int
        var failsAtEnd: Bool
        /// Number of sources after which the client closes the request.
        var taken: Int
        var readings: [Reading]
        var readsAtOnce: Bool
        var delay: Int

        init(_ random: inout SplitMix64) {
            sources = (0..<Int.random(in: 0...6, using: &random)).map { _ in
                let limit = [1, 100, 16_385, 70_000, 200_000].randomElement(using: &random)!
                return Source(
                    ending: Ending.allCases.randomElement(using: &random)!,
                    size: Int.random(in: 0..<limit, using: &random))
            }
            granted = Int.random(in: 1...4, using: &random)
            failsAtEnd = Int.random(in: 0..<8, using: &random) == 0
            taken = Bool.random(using: &random) ? .max : Int.random(in: 0...6, using: &random)
            let gentle = Bool.random(using: &random)
            readings = sources.indices.map { _ in
                gentle ? .whole : Reading.allCases.randomElement(using: &random)!
            }
            readsAtOnce = Bool.random(using: &random)
            delay = Int.random(in: 0..<3, using: &random)
        }
    }

    /// Performs one request. Returns descriptions of errors.
    private static func round(_ client: Node, _ plans: PlanTable, _ id: Int, _ plan: Plan) async throws -> [String] {
        plans.add(plan.sources, plan.failsAtEnd, id)
        var body = ByteBuffer()
        body.writeInteger(UInt32(id))
        let request = DialRequest(first: body, maximumPushedSources: plan.granted)
        let master = try await client.dial("push", request, deadline: .testDeadline)
        for _ in 0..<plan.delay { await Task.yield() }
        return try await withThrowingTaskGroup(of: String?.self) { group in
            var wrong: [String] = []
            var count = 0
            taking: while count < plan.taken {
                switch try await master.nextMasterEvent(deadline: .testDeadline) {
                case .pushed(let stream):
                    let (index, reading) = (count, plan.readings[count])
                    count += 1
                    if plan.readsAtOnce {
                        group.addTask { await Self.read(stream, index, reading) }
                    } else if let problem = await Self.read(stream, index, reading) {
                        wrong.append(problem)
                    }
                case .finished:
                    if plan.failsAtEnd || count != plan.sources.count {
                        wrong.append("finished after \(count) sources")
                    }
                    break taking
                case .failed(let error):
                    if !plan.failsAtEnd || count != plan.sources.count {
                        wrong.append("after \(count) sources: \(error)")
                    }
                    break taking
                case .bytes, .nothing:
                    wrong.append("unexpected bytes")
                    break taking
                }
            }
            master.close()
            for try await problem in group { if let problem { wrong.append(problem) } }
            return wrong.map { "request \(id): \($0)" }
        }
    }

    /// The plans of the server by request id, which is the body of the request.
    private final class PlanTable: Sendable {
        private let plans = NIOLockedValueBox<[UInt32: ([Source], Bool)]>([:])

        func add(_ sources: [Source], _ failsAtEnd: Bool, _ id: Int) {
            plans.withLockedValue { $0[UInt32(id)] = (sources, failsAtEnd) }
        }

        /// Reads the body and serves the request by its plan.
        var delegate: any StreamDelegate {
            ChangeHandler { request in
                guard case .bytes(var body) = request.takeReceived(), let id = body.readInteger(as: UInt32.self),
                    let (sources, failsAtEnd) = self.plans.withLockedValue({ $0.removeValue(forKey: id) })
                else {
                    if request.isPeerClosed { request.close() }
                    return
                }
                let serving = Serving(sources, failsAtEnd: failsAtEnd)
                request.setDelegate(serving)
                serving.streamChanged(request)
            }
        }
    }

    @Test(arguments: [false, true])
    func `sources arrive as sent and no resources stay in use, whatever both ends do`(isRouted: Bool) async throws {
        let server = Node.withoutTimeouts(.server)
        let client = Node.withoutTimeouts(.server)
        let router = Node.withoutTimeouts(.router)
        let plans = PlanTable()
        let listener = try server.bind("push", answersSoon: true) { request in
            request.setDelegate(plans.delegate)
            return .accepted
        }
        if isRouted {
            let address = try await router.listening()
            try await server.join(address)
            try await client.join(address)
        } else {
            try await client.join(try await server.listening())
        }
        let seed = UInt64.random(in: 0 ... .max)
        var random = SplitMix64(state: seed)
        let rounds = isRouted ? 500 : 2_000
        var wrong: [String] = []
        try await withThrowingTaskGroup(of: [String].self) { group in
            for id in 0..<rounds {
                if id >= 8 { wrong += try await group.next() ?? [] }
                let plan = Plan(&random)
                group.addTask { try await Self.round(client, plans, id, plan) }
            }
            for try await problems in group { wrong += problems }
        }
        #expect(wrong == [], "seed \(seed)")
        try await client.expectNothingLeft()
        try await server.expectNothingLeft()
        try await eventually { router.core.buffered.held == 0 }
        listener.close()
        for node in [client, server, router] { await node.shutdown() }
    }
}
