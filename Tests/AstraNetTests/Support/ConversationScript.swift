import AstraNet

/// The content of a recorded chanserv conversation: its streams in the order of their dials, and what each side sent on
/// them, independent of host ids and ports.
struct ConversationScript: Sendable {
    typealias Role = WireConversation.Role

    /// One recorded stream.
    struct RecordedStream: Sendable {
        var service: String
        var clientPort: UInt32
        var serverPort: UInt32
        var said: [Role: Said] = [.client: Said(), .server: Said()]
    }

    /// What one side sent on a stream, independent of how it divided bytes and credit into ops.
    struct Said: Sendable, Hashable {
        /// Ops other than DATA, REWIND and FIN1. FIN1 is left out because a Go node closes with FIN2 alone, and a node
        /// of this library with FIN1 and FIN2.
        var controls: [Command] = []
        var bytes: [UInt8] = []
        var credit = 0

        /// Adds an op. Returns the rule that it breaks, or `nil`.
        mutating func count(_ op: WireOp) -> String? {
            switch op.command {
            case .data:
                bytes += op.payload
                if controls.contains(.fin2) { return "DATA after FIN2" }
                if op.payload.isEmpty || op.payload.count > 65_536 { return "DATA of \(op.payload.count) bytes" }
            case .rewind: credit += Int(op.number ?? 0)
            case .fin1: break
            default: controls.append(op.command)
            }
            return nil
        }
    }

    let conversation: WireConversation
    private(set) var streams: [RecordedStream] = []
    private(set) var hosts: [Role: HostID] = [:]
    /// Services that the server announced, by port, without the `ipc.<host>` services of Go nodes.
    private(set) var services: [UInt32: String] = [:]
    private(set) var withdrawn: Set<String> = []
    /// Names of sources: services whose name the server sent on a master stream.
    private(set) var sourceNames: Set<String> = []

    init(_ conversation: WireConversation) {
        self.conversation = conversation
        for recorded in conversation.ops {
            let op = recorded.op
            switch op.command {
            case .handshake: hosts[recorded.from] = op.source.host
            case .service where !op.text.hasPrefix("ipc."): services[op.source.port] = op.text
            case .noService where !op.text.hasPrefix("ipc."): withdrawn.insert(op.text)
            default: break
            }
        }
        for recorded in conversation.ops {
            let op = recorded.op
            if op.command == .dial {
                streams.append(
                    RecordedStream(
                        service: services[op.destination.port] ?? "", clientPort: op.source.port,
                        serverPort: op.destination.port))
            }
            guard let index = stream(of: op, from: recorded.from) else { continue }
            _ = streams[index].said[recorded.from]!.count(op)
        }
        for stream in streams {
            for name in Self.sourceNames(in: stream.said[.server]!.bytes) where services.values.contains(name) {
                sourceNames.insert(name)
            }
        }
    }

    /// The index of the stream that a recorded op belongs to.
    func stream(of op: WireOp, from: Role) -> Int? {
        let (client, server) = from == .client ? (op.source, op.destination) : (op.destination, op.source)
        return streams.lastIndex { $0.clientPort == client.port && $0.serverPort == server.port }
    }

    /// The source names in the bytes of a master stream: every second frame.
    static func sourceNames(in answer: [UInt8]) -> [String] {
        var names: [String] = []
        var rest = answer[...]
        var isName = false
        while rest.count >= 8 {
            let count = rest.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            rest = rest.dropFirst(8)
            guard count <= rest.count else { break }
            if isName { names.append(String(decoding: rest.prefix(Int(count)), as: UTF8.self)) }
            isName.toggle()
            rest = rest.dropFirst(Int(count))
        }
        return names
    }
}
