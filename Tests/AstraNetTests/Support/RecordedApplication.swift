import AstraNet
import NIOCore
import Testing

/// Repeats on a node what the application of a recording did, with the recorded bytes.
struct RecordedApplication: Sendable {
    let script: ConversationScript
    let node: Node

    /// Binds the services of the recorded server and answers each stream with the recorded bytes.
    func serve() async throws {
        let requests = Dictionary(
            grouping: script.streams.filter { !script.sourceNames.contains($0.service) }, by: \.service)
        let idle = Set(script.services.values).subtracting(script.sourceNames).subtracting(requests.keys)
        let idleListeners = try idle.map { try node.bind($0) }
        try await withThrowingDiscardingTaskGroup { group in
            for (name, streams) in requests {
                let listener = try node.bind(name)
                group.addTask {
                    try await withThrowingDiscardingTaskGroup { requests in
                        for recorded in streams {
                            let stream = try await listener.nextStream()
                            requests.addTask { try await answer(recorded, on: stream) }
                        }
                    }
                }
            }
        }
        for listener in idleListeners { listener.close() }
    }

    private func answer(_ recorded: ConversationScript.RecordedStream, on master: AstraNet.MeshStream) async throws {
        let request = recorded.said[.client]!.bytes
        #expect(try await read(request.count, from: master) == request)
        let answer = recorded.said[.server]!.bytes
        try await withThrowingDiscardingTaskGroup { group in
            for name in ConversationScript.sourceNames(in: answer) {
                // The recording may end before a source is announced or dialled.
                guard script.sourceNames.contains(name) else { continue }
                let listener = try node.bind(name)
                guard let source = script.streams.first(where: { $0.service == name }) else { continue }
                group.addTask {
                    let stream = try await listener.nextStream()
                    listener.close()
                    try await stream.send(ByteBuffer(bytes: source.said[.server]!.bytes))
                    stream.close()
                }
            }
            try await master.send(ByteBuffer(bytes: answer))
            master.close()
        }
    }

    /// Dials what the recorded client dialled, as soon as the name is known, and reads the whole streams.
    func post() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for recorded in script.streams where !script.sourceNames.contains(recorded.service) {
                group.addTask { try await request(recorded) }
            }
        }
    }

    private func request(_ recorded: ConversationScript.RecordedStream) async throws {
        let master = try await node.dial(recorded.service, deadline: .testDeadline)
        try await master.send(ByteBuffer(bytes: recorded.said[.client]!.bytes))
        try await withThrowingDiscardingTaskGroup { group in
            var answer: [UInt8] = []
            var known = 0
            while let bytes = try await master.receive() {
                answer += bytes.readableBytesView
                let names = ConversationScript.sourceNames(in: answer)
                for name in names[known...] {
                    guard let source = script.streams.first(where: { $0.service == name }) else { continue }
                    group.addTask { try await fetch(source) }
                }
                known = names.count
            }
            #expect(answer == recorded.said[.server]!.bytes)
            master.close()
        }
    }

    private func fetch(_ recorded: ConversationScript.RecordedStream) async throws {
        let stream = try await node.dial(recorded.service, deadline: .testDeadline)
        let expected = recorded.said[.server]!
        // A recording may end before a stream does.
        let bytes =
            expected.controls.contains(.fin2)
            ? Array(try await stream.readAll().readableBytesView) : try await read(expected.bytes.count, from: stream)
        #expect(bytes == expected.bytes)
        stream.close()
    }

    private func read(_ count: Int, from stream: AstraNet.MeshStream) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count, let more = try await stream.receive() { bytes += more.readableBytesView }
        return bytes
    }
}
