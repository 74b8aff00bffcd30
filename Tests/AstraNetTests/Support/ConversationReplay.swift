import AstraNet
import NIOCore
import Testing

/// Plays one side of a recording over a socket against a live node that has the other role.
///
/// The recorded side keeps its host id and ports. The node chooses its own, and the replay maps them. It sends a
/// recorded op as soon as everything that the op depends on has arrived: the earlier ops of the other side on the
/// stream, the offer for a DIAL, the credit for DATA.
struct ConversationReplay {
    typealias Role = WireConversation.Role

    let script: ConversationScript
    /// The role of the live node.
    let role: Role
    private let raw: RawPeer
    private let node: Node
    /// What the node has sent so far on each recorded stream.
    private var live: [ConversationScript.Said]
    private var livePorts: [UInt32: Int] = [:]
    private var portsOfNode: [Int: UInt32] = [:]
    private var sent: [Int]
    private var returned: [Int]
    private var offers: [String: UInt32] = [:]
    private var announced: Set<String> = []
    private var withdrawn: Set<String> = []
    private(set) var broken: [String] = []

    private init(_ script: ConversationScript, role: Role, raw: RawPeer, node: Node) {
        self.script = script
        self.role = role
        self.raw = raw
        self.node = node
        live = script.streams.map { _ in ConversationScript.Said() }
        sent = script.streams.map { _ in 0 }
        returned = sent
    }

    /// Replays a conversation and checks that the node sends what the recorded node sent.
    static func run(_ conversation: WireConversation, nodeAs role: Role) async throws {
        let script = ConversationScript(conversation)
        let node = Node.withoutTimeouts()
        let application = RecordedApplication(script: script, node: node)
        let raw = try await RawPeer.connect(
            to: try await node.listen(host: "127.0.0.1", port: 0), host: try #require(script.hosts[role.other]))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await role == .server ? application.serve() : application.post() }
            group.addTask {
                var replay = ConversationReplay(script, role: role, raw: raw, node: node)
                try await replay.play()
            }
            do {
                // Not `waitForAll`: after an error it would wait for tasks whose ops never arrive.
                for try await _ in group {}
            } catch {
                await raw.close()
                await node.shutdown(grace: .zero)
                throw error
            }
        }
        await raw.close()
        await node.shutdown()
    }

    struct Ended: Error, CustomStringConvertible {
        var waitingFor: String
        var description: String { "the node ended the link before \(waitingFor)" }
    }

    private mutating func play() async throws {
        for (index, recorded) in script.conversation.ops.enumerated() where recorded.from == role.other {
            guard recorded.op.command != .ping, recorded.op.command != .pong else { continue }
            while !isDue(index) { try await takeNext(waitingFor: "what op \(index) depends on") }
            raw.send(translated(recorded.op))
            guard let stream = script.stream(of: recorded.op, from: recorded.from) else { continue }
            if recorded.op.command == .data { sent[stream] += recorded.op.payload.count }
            if recorded.op.command == .rewind { returned[stream] += Int(recorded.op.number ?? 0) }
        }
        while !isComplete { try await takeNext(waitingFor: "the rest of the conversation") }
        try expectSameConversation()
    }

    // MARK: - Dependencies of ops

    private func isDue(_ index: Int) -> Bool {
        let op = script.conversation.ops[index].op
        if role == .server, op.command == .dial {
            guard let name = script.services[op.destination.port] else { return true }
            return offers[name] != nil
        }
        guard let stream = script.stream(of: op, from: role.other) else { return true }
        var needed = ConversationScript.Said()
        for earlier in script.conversation.ops[..<index] where earlier.from == role {
            if script.stream(of: earlier.op, from: role) == stream { _ = needed.count(earlier.op) }
        }
        // FIN2 has no fixed place among the ops of the other side.
        needed.controls.removeAll { $0 == .fin2 }
        guard live[stream].controls.count(where: { $0 != .fin2 }) >= needed.controls.count,
            live[stream].bytes.count >= needed.bytes.count
        else { return false }
        if op.command == .data { return sent[stream] + op.payload.count - live[stream].credit <= 65_536 }
        return true
    }

    private var isComplete: Bool {
        zip(live, script.streams).allSatisfy { live, recorded in
            live.controls.count >= recorded.said[role]!.controls.count
                && live.bytes.count >= recorded.said[role]!.bytes.count
        } && (role == .client || withdrawn.isSuperset(of: script.withdrawn))
    }

    // MARK: - Live ops

    private mutating func takeNext(waitingFor: String) async throws {
        guard let op = await raw.ops.next() else { throw Ended(waitingFor: waitingFor) }
        if op.source.host != node.id { broken.append("\(op.command) from host \(op.source.host)") }
        switch op.command {
        case .handshake, .ping, .pong: break
        case .service:
            offers[op.text] = op.source.port
            announced.insert(op.text)
        case .noService:
            withdrawn.insert(op.text)
        case .dial:
            let next = script.streams.indices.first { index in
                script.streams[index].serverPort == op.destination.port && !livePorts.values.contains(index)
            }
            guard let next else {
                broken.append("DIAL of port \(op.destination.port)")
                break
            }
            livePorts[op.source.port] = next
            portsOfNode[next] = op.source.port
            live[next].controls.append(.dial)
        default:
            let clientPort = role == .server ? op.destination.port : op.source.port
            let index =
                role == .server ? script.streams.firstIndex { $0.clientPort == clientPort } : livePorts[clientPort]
            guard let index else {
                broken.append("\(op.command) for no stream")
                break
            }
            if let rule = live[index].count(op) { broken.append(rule) }
            if live[index].bytes.count - returned[index] > 65_536 { broken.append("more DATA than the window") }
            if live[index].credit > sent[index] { broken.append("more credit than DATA") }
        }
    }

    /// A recorded op with the host id and ports of the live node.
    private func translated(_ recorded: WireOp) -> WireOp {
        var op = recorded
        if op.destination.host == script.hosts[role] { op.destination.host = node.id }
        if let stream = script.stream(of: recorded, from: role.other) {
            if role == .server {
                op.destination.port = offers[script.streams[stream].service] ?? op.destination.port
            } else {
                op.destination.port = portsOfNode[stream] ?? op.destination.port
            }
        }
        return op
    }

    // MARK: - Comparison

    private func expectSameConversation() throws {
        try #require(broken == [])
        for (index, recorded) in script.streams.enumerated() {
            let said = recorded.said[role]!
            try #require(
                live[index].controls.prefix(said.controls.count) == said.controls[...],
                "stream \(index) to \(recorded.service)")
            try #require(live[index].bytes == said.bytes, "stream \(index) to \(recorded.service)")
        }
        if role == .server { try #require(announced == Set(script.services.values)) }
    }
}
