import AstraNet
import Chanserv
import Foundation
import NIOCore
import Testing

/// The test vectors of `docs/protocol.md` §9 against the codec.
@Suite struct ProtocolDocumentTests {
    private static let document = Result { try ProtocolDocument() }

    private var document: ProtocolDocument {
        get throws { try Self.document.get() }
    }

    // MARK: - The document

    @Test func `the document has the sections that code cites, in this order`() throws {
        #expect(
            try document.sections == [
                "0. A minimal client", "1. Ops on a link", "2. Handshake and keep-alive", "3. Services and routes",
                "4. Streams", "5. chanserv on streams", "6. Requests with pushed sources", "7. Worker links",
                "8. Limits and error texts", "9. Test vectors", "10. Secured links and access",
            ])
    }

    @Test func `every fenced block of the document is a vector that a test reads`() throws {
        let kinds = Dictionary(grouping: try document.fences, by: \.kind).mapValues { $0.map(\.name) }
        #expect(kinds["hosts"] == ["ids"])
        #expect(
            kinds["ops"] == [
                "walk-link", "walk-request", "walk-answer", "walk-source", "walk-end", "handshake", "handshake-go",
                "routing", "eager", "credit", "failure", "refusal", "named", "push-direct", "push-router-first",
                "push-router-next", "push-wrong-cookie", "push-refused", "shared",
            ])
        #expect(kinds["blocks"] == ["valid", "skipped", "ignored"])
        #expect(kinds["frames"] == ["raw", "compressed", "refused"])
        // DocumentTests in ChanservCLITests runs these two.
        #expect(kinds["python"] == ["client"])
        #expect(kinds["console"] == ["session"])
        #expect(kinds.count == 6)
    }

    @Test func `the table of commands has every command with its value`() throws {
        let rows = try document.rows(ofTableBehind: "| command | value |")
        var values: [String: UInt8] = [:]
        for row in rows where row[0] != "READS, SHARED, TAKEN" { values[row[0]] = UInt8(row[1]) }
        for row in try document.rows(ofTableBehind: "| op | value |") { values[row[0]] = UInt8(row[1]) }
        let known = (UInt8.min...UInt8.max).map(Command.init(rawValue:)).filter { !"\($0)".hasPrefix("command ") }
        #expect(values == Dictionary(uniqueKeysWithValues: known.map { ("\($0)", $0.rawValue) }))
    }

    @Test func `the table of abilities has every ability that a node announces`() throws {
        let documented = Set(try document.rows(ofTableBehind: "| ability |").map { $0[0].filter { $0 != "`" } })
        #expect(documented.isSuperset(of: Handshake.Ability.allCases.map(\.rawValue)))
    }

    @Test func `the limits in the document match the code`() throws {
        let text = try document.text
        #expect(Op.maximumPayload == 65_536 && text.contains("Maximum payload: 65,536 bytes"))
        #expect(Op.largePayload == 262_144 && text.contains("announces 262,144"))
        #expect(DialBlock.maximumSize == 4_096 && text.contains("A block has at most 4,096 bytes"))
        #expect(SendWindow.initialSize == 65_536 && text.contains("starts with a window of 65,536 bytes"))
        #expect(Address.firstDynamicPort == 1 << 24 + 1 && text.contains("starts at 2^24 + 1"))
        #expect(WireFormat.maxFrameSize == 104_857_600 && text.contains("Maximum length 104,857,600"))
        #expect(WireFormat.maxUncompressedSize == 209_715_200 && text.contains("209,715,200 (200 MiB)"))
        #expect(WireFormat.maxExpansion == 255 && text.contains("at most 255 · n bytes"))
        #expect(WireFormat.maxNameSize == 1_024 && NodeConfiguration().maximumServiceName == 1_024)
        #expect(text.contains("| service name, source name | 1,024 bytes |"))
    }

    // MARK: - Ops

    @Test func `the ops of each conversation match their descriptions and encode to the same bytes`() throws {
        for conversation in try document.conversations {
            for documented in conversation.ops {
                let op = try documented.decoded()
                #expect(op.header == documented.header, "\(conversation.name)")
                #expect(documented.encoded(payload: op.payload) == documented.bytes, "\(conversation.name)")
                let description = try documented.describePayload(op.payload)
                #expect(description == documented.description, "\(conversation.name)")
            }
        }
    }

    @Test func `the handshakes match those that nodes send`() throws {
        let handshakes = try document.conversations.flatMap(\.ops).filter { $0.header.command == .handshake }
        #expect(handshakes.count == 6)
        for documented in handshakes {
            let payload = try documented.decoded().payload
            let handshake = try Handshake(decoding: payload)
            guard case .object(let members) = JSONValue(payload.readableBytesView) else {
                Issue.record("not an object")
                continue
            }
            #expect(members["RAddr"] == .string(handshake.remoteAddress))
            #expect(try #require(HostPort(handshake.remoteAddress)).host == "127.0.0.1")
            if members["Abilities"] == nil {
                #expect(handshake.encoded() == payload, "a Go node")
                #expect(handshake == Handshake(remoteAddress: handshake.remoteAddress))
            } else if handshake.abilities == [.refuse] {
                #expect(handshake.encoded() == payload, "the client of section 0")
                #expect(documented.header.source.host.rawValue == 0x63ac_cd93_4040_683d)
            } else {
                #expect(handshake.abilities == Set(Handshake.Ability.allCases))
                #expect(handshake.maximumPayload == Op.largePayload)
                // The abilities of this version, and those that the document specifies.
                let names = ["eager", "identity", "push", "refuse", "window"]
                #expect(members["Abilities"] == .array(names.map { .string($0) }))
            }
        }
    }

    @Test func `the frames of each conversation match the document`() throws {
        for conversation in try document.conversations {
            let frames = try conversation.frames()
            #expect(frames == conversation.documentedFrames, "\(conversation.name)")
        }
    }

    @Test func `the conversation with named sources matches the recording`() throws {
        let named = try #require(try document.conversations.first { $0.name == "named" })
        guard let recorded = WireConversation.shared.first(where: { $0.name == "echo" }) else { return }
        let left: Set<Command> = [.handshake, .follow]
        let expected = recorded.ops.filter { op in
            !left.contains(op.op.command) && !(op.op.command == .service && [3, 16].contains(op.op.payload.count))
        }
        #expect(named.ops.map(\.bytes) == expected.map(\.bytes))
    }

    // MARK: - Pushed sources

    @Test(arguments: ["push-direct", "push-router-first", "push-router-next"])
    func `the conversations with pushed sources keep the rules of section 6`(name: String) throws {
        let conversation = try #require(try document.conversations.first { $0.name == name })
        let blocks = try conversation.ops.map { DialBlock(decoding: try $0.decoded().payload) }
        let request = try #require(conversation.ops.first)
        let grant = try #require(blocks[0]?.push)
        #expect(request.header.command == .dial)

        // The cookie, and the ops before the body.
        let body = try #require(conversation.ops.firstIndex { $0.sender == "C" && $0.header.command == .data })
        let commands = conversation.ops.prefix(body).map(\.header.command)
        if name == "push-router-first" {
            #expect(commands == [.dial, .syn, .ack])
            #expect(blocks[0]?.cookie == nil)
            #expect(try #require(blocks[1]?.cookie) == blocks[2]?.cookie)
        } else {
            #expect(commands == [.dial])
            #expect((blocks[0]?.cookie != nil) == (name == "push-router-next"))
        }

        // The pushed source.
        let dial = try #require(conversation.ops.firstIndex { $0.sender == "S" && $0.header.command == .dial })
        let pushed = conversation.ops[dial].header
        #expect(dial > body)
        #expect(pushed.destination == request.header.source)
        #expect(pushed.source.host == request.header.destination.host)
        #expect(pushed.source.port != request.header.destination.port)
        #expect(
            blocks[dial]?.source
                == DialBlock.Source(nonce: grant.nonce, streamPort: request.header.destination.port, index: 0))

        let ofPushed = conversation.ops.filter { $0.header.source == pushed.source && $0.sender == "S" }
        #expect(ofPushed.map(\.header.command) == [.dial, .data, .fin1, .fin2])
        let bytes = try ofPushed.reduce(0) {
            try $0 + ($1.header.command == .data ? $1.decoded().payload.readableBytes : 0)
        }
        #expect(bytes <= Int(grant.window))

        // The end of the request follows the DIAL, and the SYN of the acceptance is the last op.
        let end = try #require(
            conversation.ops.firstIndex {
                $0.header.command == .fin2 && $0.header.source == request.header.destination
            })
        #expect(end > dial)
        let last = try #require(conversation.ops.last)
        #expect(last.header == OpHeader(.syn, to: pushed.source, from: pushed.destination))
    }

    // MARK: - Dial blocks

    @Test(arguments: ["valid", "skipped"])
    func `the dial blocks match their descriptions`(name: String) throws {
        for line in try document.lines(of: "blocks", name) {
            let block = try #require(DialBlock(decoding: ByteBuffer(bytes: line.bytes)), "\(line.text)")
            #expect(block.documented == line.text)
            var encoded = ByteBuffer()
            try block.validate()
            block.encode(into: &encoded)
            if name == "valid" { #expect(encoded == ByteBuffer(bytes: line.bytes), "\(line.text)") }
            #expect(DialBlock(decoding: encoded) == block)
        }
    }

    @Test func `the dial blocks that a receiver ignores are ignored`() throws {
        let lines = try document.lines(of: "blocks", "ignored")
        #expect(lines.count == 12)
        for line in lines { #expect(DialBlock(decoding: ByteBuffer(bytes: line.bytes)) == nil, "\(line.text)") }
    }

    // MARK: - Frames

    @Test(arguments: ["raw", "compressed"])
    func `the frames match their descriptions`(name: String) throws {
        for line in try document.lines(of: "frames", name) {
            var payload = line.text
            if payload.hasSuffix(" 300 times") {
                payload = String(repeating: try ProtocolDocument.unquoted(payload.dropLast(10)), count: 300)
            } else {
                payload = try ProtocolDocument.unquoted(payload)
            }
            #expect(try Self.frame(of: line.bytes) == ByteBuffer(string: payload))

            var batch = FrameBatch(compression: name == "compressed")
            try batch.append(payload)
            let encoded = batch.take()
            #expect(try Self.frame(of: Array(encoded.readableBytesView)) == ByteBuffer(string: payload))
            // The block for a long repetition depends on the version of LZ4.
            if payload.utf8.count < 100 { #expect(encoded == ByteBuffer(bytes: line.bytes)) }
        }
    }

    @Test func `the frames that a receiver refuses fail with the documented error`() throws {
        let lines = try document.lines(of: "frames", "refused")
        #expect(lines.count == 5)
        for line in lines {
            let error = #expect(throws: ChanservError.self, "\(line.text)") { try Self.frame(of: line.bytes) }
            #expect(error?.code.description == line.text)
        }
    }

    /// The only frame in `bytes`, decompressed.
    private static func frame(of bytes: [UInt8]) throws -> ByteBuffer {
        var decoder = FrameDecoder(decompresses: true)
        decoder.append(ByteBuffer(bytes: bytes))
        let frame = try decoder.next()
        try decoder.finish()
        return try #require(frame)
    }
}

// MARK: - Reading the document

/// The parsed `docs/protocol.md`.
private struct ProtocolDocument {
    struct Malformed: Error, CustomStringConvertible {
        var description: String
    }

    /// A fenced block.
    struct Fence {
        var kind: String
        var name: String
        var lines: [Substring]
    }

    let text: String
    let fences: [Fence]
    private let hosts: [Substring: HostID]

    init() throws {
        // The repository's root is four levels above this file.
        var root = URL(filePath: #filePath)
        for _ in 0..<4 { root.deleteLastPathComponent() }
        text = try String(contentsOf: root.appending(path: "docs/protocol.md"), encoding: .utf8)
        var fences: [Fence] = []
        var open: Fence?
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            guard line.hasPrefix("```") else {
                open?.lines.append(line)
                continue
            }
            if let fence = open {
                fences.append(fence)
                open = nil
            } else {
                let info = line.dropFirst(3).split(separator: " ")
                guard info.count == 2 else { throw Malformed(description: "fence without kind and name: \(line)") }
                open = Fence(kind: String(info[0]), name: String(info[1]), lines: [])
            }
        }
        guard open == nil else { throw Malformed(description: "fence without end") }
        self.fences = fences
        hosts = Dictionary(
            uniqueKeysWithValues: try fences.filter { $0.kind == "hosts" }.flatMap(\.lines).map { line in
                let parts = line.split(separator: " ")
                guard parts.count == 2, let id = UInt64(parts[1], radix: 16) else {
                    throw Malformed(description: "not a host: \(line)")
                }
                return (parts[0], HostID(rawValue: id))
            })
    }

    /// The titles of the sections.
    var sections: [String] {
        text.split(separator: "\n").filter { $0.hasPrefix("## ") }.map { String($0.dropFirst(3)) }
    }

    /// The cells of the rows of the table that begins with `head`.
    func rows(ofTableBehind head: String) throws -> [[String]] {
        guard let start = text.range(of: head) else { throw Malformed(description: "no table \(head)") }
        let lines = text[start.lowerBound...].split(separator: "\n", omittingEmptySubsequences: false)
        return lines.dropFirst(2).prefix { $0.hasPrefix("|") }.map { line in
            line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }

    /// The lines of a fenced block: bytes in hex, then a text. `-` means no bytes.
    func lines(of kind: String, _ name: String) throws -> [(bytes: [UInt8], text: String)] {
        guard let fence = fences.first(where: { $0.kind == kind && $0.name == name }) else {
            throw Malformed(description: "no \(kind) \(name)")
        }
        return try fence.lines.map { line in
            guard let space = line.firstIndex(of: " ") else { throw Malformed(description: "no text: \(line)") }
            let hex = line[..<space]
            return (hex == "-" ? [] : try Self.bytes(ofHex: hex), String(line[line.index(after: space)...]))
        }
    }

    static func bytes(ofHex text: some StringProtocol) throws -> [UInt8] {
        let digits = Array(text.utf8.filter { $0 != UInt8(ascii: " ") })
        guard digits.count % 2 == 0 else { throw Malformed(description: "half a byte: \(text)") }
        return try stride(from: 0, to: digits.count, by: 2).map { index in
            let pair = String(decoding: digits[index..<index + 2], as: UTF8.self)
            guard let byte = UInt8(pair, radix: 16) else { throw Malformed(description: "not hex: \(pair)") }
            return byte
        }
    }

    /// The content of a quoted text.
    static func unquoted(_ text: some StringProtocol) throws -> String {
        guard case .string(let string) = JSONValue(text.utf8) else {
            throw Malformed(description: "not a quoted text: \(text)")
        }
        return string
    }

    // MARK: Conversations

    var conversations: [Conversation] {
        get throws {
            try fences.filter { $0.kind == "ops" }.map { fence in
                var conversation = Conversation(name: fence.name)
                for line in fence.lines {
                    if line.hasPrefix("  = ") {
                        conversation.ops[conversation.ops.count - 1].description = String(line.dropFirst(4))
                    } else if line.hasPrefix("  ") {
                        conversation.ops[conversation.ops.count - 1].bytes += try Self.bytes(ofHex: line)
                    } else if line.hasPrefix("frames ") {
                        let (way, frames) = try readFrames(line)
                        conversation.documentedFrames[way] = frames
                    } else {
                        conversation.ops.append(try readOp(line))
                    }
                }
                return conversation
            }
        }
    }

    /// Parses a line such as `S DIAL to C:1 from S:2`.
    private func readOp(_ line: Substring) throws -> DocumentedOp {
        let words = line.split(separator: " ")
        let commands = (UInt8.min...UInt8.max).map(Command.init(rawValue:))
        guard words.count == 6, words[2] == "to", words[4] == "from",
            let command = commands.first(where: { "\($0)" == words[1] })
        else { throw Malformed(description: "not an op: \(line)") }
        return DocumentedOp(
            sender: String(words[0]),
            header: OpHeader(command, to: try readAddress(words[3]), from: try readAddress(words[5])))
    }

    /// Parses a line such as `frames to C:1 from S:2: "a" "b"`.
    private func readFrames(_ line: Substring) throws -> (Conversation.Way, [String]) {
        let words = line.split(separator: " ", maxSplits: 5)
        guard words.count == 6, words[1] == "to", words[3] == "from", words[4].hasSuffix(":") else {
            throw Malformed(description: "not a list of frames: \(line)")
        }
        guard case .array(let frames) = JSONValue("[\(words[5].replacing("\" \"", with: "\", \""))]".utf8) else {
            throw Malformed(description: "not a list of texts: \(words[5])")
        }
        let way = Conversation.Way(
            destination: try readAddress(words[2]), source: try readAddress(words[4].dropLast()))
        return (
            way,
            try frames.map { frame in
                guard case .string(let text) = frame else { throw Malformed(description: "not a text: \(frame)") }
                return text
            }
        )
    }

    private func readAddress(_ text: Substring) throws -> Address {
        let parts = text.split(separator: ":")
        guard parts.count == 2, let host = hosts[parts[0]], let port = UInt32(parts[1]) else {
            throw Malformed(description: "not an address: \(text)")
        }
        return Address(host: host, port: port)
    }
}

/// An op of the document.
private struct DocumentedOp {
    var sender: String
    var header: OpHeader
    /// The documented description of the payload; `nil` for DATA and for an op without payload.
    var description: String?
    var bytes: [UInt8] = []

    func decoded() throws -> Op {
        var buffer = ByteBuffer(bytes: bytes)
        let read = try buffer.readOp()
        let op = try #require(read, "cut: \(self)")
        #expect(buffer.readableBytes == 0, "bytes after the op: \(self)")
        return op
    }

    /// The encoded op: the header of the document and the payload that the codec decoded, encoded again.
    func encoded(payload: ByteBuffer) -> [UInt8] {
        var buffer = ByteBuffer()
        if let number = payload.number, [.rewind, .windowSize, .taken, .fin2].contains(header.command) {
            buffer.writeOp(header, number: number)
        } else if let block = DialBlock(decoding: payload), [.dial, .syn, .ack].contains(header.command) {
            var encoded = ByteBuffer()
            block.encode(into: &encoded)
            buffer.writeOp(Op(header: header, payload: encoded))
        } else if let place = SharedPlace(payload), header.command == .shared {
            buffer.writeOp(header, place)
        } else if header.command == .data {
            buffer.writeOp(Op(header: header, payload: payload))
        } else {
            buffer.writeOp(header, text: String(buffer: payload))
        }
        return Array(buffer.readableBytesView)
    }

    /// Describes the payload as decoded by the codec, in the format of the document.
    func describePayload(_ payload: ByteBuffer) throws -> String? {
        guard payload.readableBytes > 0 else { return nil }
        switch header.command {
        case .data:
            return nil
        case .dial, .syn, .ack:
            return try #require(DialBlock(decoding: payload)).documented
        case .rewind, .windowSize, .taken, .fin2:
            return "number \(try #require(payload.number))"
        case .shared:
            let place = try #require(SharedPlace(payload))
            return "shared \(place.count) bytes at \(place.offset)"
        default:
            return "text \(JSONValue.quoted(String(buffer: payload)))"
        }
    }
}

/// Ops in an order in which a recorder between the two ends could see them.
private struct Conversation {
    /// One direction of a stream.
    struct Way: Hashable {
        var destination: Address
        var source: Address
    }

    var name: String
    var ops: [DocumentedOp] = []
    var documentedFrames: [Way: [String]] = [:]

    init(name: String) {
        self.name = name
    }

    /// The frames in all DATA of each direction, which must end with a whole frame.
    func frames() throws -> [Way: [String]] {
        var decoders: [Way: FrameDecoder] = [:]
        var frames: [Way: [String]] = [:]
        for documented in ops where documented.header.command == .data {
            let way = Way(destination: documented.header.destination, source: documented.header.source)
            var decoder = decoders[way] ?? FrameDecoder(decompresses: false)
            decoder.append(try documented.decoded().payload)
            while let frame = try decoder.next() { frames[way, default: []].append(String(buffer: frame)) }
            decoders[way] = decoder
        }
        for decoder in decoders.values { try decoder.finish() }
        return frames
    }
}

extension DialBlock {
    /// The block in the format of the document.
    fileprivate var documented: String {
        func hex(_ number: UInt64) -> String {
            let digits = String(number, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        var parts: [String] = []
        if let push {
            parts.append("push(nonce \(hex(push.nonce)), sources \(push.maximumSources), window \(push.window))")
        }
        if let cookie { parts.append("cookie(\(hex(cookie)))") }
        if let deadlineMilliseconds { parts.append("deadline(\(deadlineMilliseconds) ms)") }
        if let meta { parts.append("meta(\(JSONValue.quoted(meta)))") }
        if let bucket { parts.append("bucket(\(JSONValue.quoted(bucket)))") }
        if let traceParent { parts.append("traceparent(\(JSONValue.quoted(traceParent)))") }
        if let identity { parts.append("identity(\(JSONValue.quoted(identity)))") }
        if let source {
            parts.append("source(nonce \(hex(source.nonce)), stream \(source.streamPort), index \(source.index))")
        }
        return "block \(parts.isEmpty ? "empty" : parts.joined(separator: ", "))"
    }
}
