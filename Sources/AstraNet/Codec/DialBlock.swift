package import NIOCore

/// The dial block: the optional payload of DIAL, SYN and ACK between nodes that push sources (`docs/protocol.md` §6.1).
///
/// It consists of a version byte and entries of type (u8), length (u16 big-endian) and value. Entries of unknown types
/// are skipped.
package struct DialBlock: Hashable, Sendable {
    /// Permission to push sources of the request that this DIAL opens; entry 1.
    package var push: Push?
    /// Proof that the client receives at its host id; entry 2.
    package var cookie: UInt64?
    /// Time left for the request, in milliseconds; entry 3.
    package var deadlineMilliseconds: UInt32?
    /// The request's meta tag; entry 4.
    package var meta: String? {
        get { texts?.meta }
        set { texts = Texts.of(meta: newValue, bucket: bucket, traceParent: traceParent, identity: identity) }
    }
    /// The request's bucket tag; entry 5.
    package var bucket: String? {
        get { texts?.bucket }
        set { texts = Texts.of(meta: meta, bucket: newValue, traceParent: traceParent, identity: identity) }
    }
    /// The W3C trace context of the request; entry 6. ASCII.
    package var traceParent: String? {
        get { texts?.traceParent }
        set { texts = Texts.of(meta: meta, bucket: bucket, traceParent: newValue, identity: identity) }
    }
    /// The identity of the dialer, which only routers write (``RelayedIdentity``); entry 7.
    package var identity: String? {
        get { texts?.identity }
        set { texts = Texts.of(meta: meta, bucket: bucket, traceParent: traceParent, identity: newValue) }
    }
    /// The request and position that a pushed source belongs to; entry 16.
    package var source: Source?
    /// Meta tag, bucket tag, trace parent and identity; `nil` if there is none.
    ///
    /// One reference, because a request copies its block ten times.
    package var texts: Texts?

    /// Permission to push sources, as granted by the client.
    package struct Push: Hashable, Sendable {
        /// An unpredictable number that every pushed source of the request repeats.
        package var nonce: UInt64
        /// Maximum number of pushed sources that the client has not accepted yet.
        package var maximumSources: UInt16
        /// Maximum DATA bytes of one pushed source before the client accepts it.
        package var window: UInt32

        package init(nonce: UInt64, maximumSources: UInt16, window: UInt32) {
            self.nonce = nonce
            self.maximumSources = maximumSources
            self.window = window
        }
    }

    /// The request and position that a pushed source belongs to.
    package struct Source: Hashable, Sendable {
        /// The nonce of the request's ``Push``.
        package var nonce: UInt64
        /// The service port of the request's master stream.
        package var streamPort: UInt32
        /// Position of the source among the sources of the request, from 0.
        package var index: UInt32

        package init(nonce: UInt64, streamPort: UInt32, index: UInt32) {
            self.nonce = nonce
            self.streamPort = streamPort
            self.index = index
        }
    }

    /// Maximum size of an encoded block in bytes, without the identity that a router adds.
    package static let maximumSize = 4_096
    /// Maximum size of a received block in bytes.
    package static let maximumReceivedSize = maximumSize + entryHeaderSize + RelayedIdentity.maximumSize

    /// The version of the encoding (`docs/protocol.md` §6).
    package static let version: UInt8 = 1
    private static let entryHeaderSize = 3

    private enum EntryType {
        static let push: UInt8 = 1
        static let cookie: UInt8 = 2
        static let deadline: UInt8 = 3
        static let meta: UInt8 = 4
        static let bucket: UInt8 = 5
        static let traceParent: UInt8 = 6
        static let identity: UInt8 = 7
        static let source: UInt8 = 16
    }

    /// Whether the dialer has written the block, so that it is a node that understands ERR. A router writes only the
    /// identity.
    package var isOfDialer: Bool {
        push != nil || cookie != nil || deadlineMilliseconds != nil || source != nil || texts?.isOfDialer ?? false
    }

    /// Whether the block has no entries.
    package var isEmpty: Bool {
        push == nil && cookie == nil && deadlineMilliseconds == nil && source == nil && texts == nil
    }

    package init(
        push: Push? = nil, cookie: UInt64? = nil, deadlineMilliseconds: UInt32? = nil, meta: String? = nil,
        bucket: String? = nil, traceParent: String? = nil, source: Source? = nil
    ) {
        self.push = push
        self.cookie = cookie
        self.deadlineMilliseconds = deadlineMilliseconds
        self.source = source
        texts = Texts.of(meta: meta, bucket: bucket, traceParent: traceParent)
    }

    /// The tags, the trace parent and the identity of a request.
    package final class Texts: Hashable, Sendable {
        package let meta: String?
        package let bucket: String?
        package let traceParent: String?
        package let identity: String?

        /// Returns `nil` if there is no text. Not a failable initializer, which would allocate first.
        package static func of(
            meta: String?, bucket: String? = nil, traceParent: String? = nil, identity: String? = nil
        ) -> Texts? {
            if meta == nil, bucket == nil, traceParent == nil, identity == nil { return nil }
            return Texts(meta: meta, bucket: bucket, traceParent: traceParent, identity: identity)
        }

        private init(meta: String?, bucket: String?, traceParent: String?, identity: String?) {
            self.meta = meta
            self.bucket = bucket
            self.traceParent = traceParent
            self.identity = identity
        }

        /// Whether there is a text that the dialer has written.
        fileprivate var isOfDialer: Bool { meta != nil || bucket != nil || traceParent != nil }

        package static func == (a: Texts, b: Texts) -> Bool {
            a === b
                || a.meta == b.meta && a.bucket == b.bucket && a.traceParent == b.traceParent
                    && a.identity == b.identity
        }

        package func hash(into hasher: inout Hasher) {
            hasher.combine(meta)
            hasher.combine(bucket)
            hasher.combine(traceParent)
            hasher.combine(identity)
        }
    }
}

// MARK: - Decoding

extension DialBlock {
    /// Decodes the payload of a DIAL, SYN or ACK.
    ///
    /// Returns `nil` if the receiver must ignore the block: it is empty, larger than ``maximumSize`` and an identity
    /// together, of another version or truncated, has a type twice, or has a value of the wrong length or encoding.
    package init?(decoding payload: ByteBuffer) {
        self.init()
        guard payload.readableBytes <= Self.maximumReceivedSize, payload.withUnsafeReadableBytes({ decode($0) }) else {
            return nil
        }
    }

    /// Stores all entries. Returns `false` if the block must be ignored.
    private mutating func decode(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.first == Self.version else { return false }
        var rest = bytes.dropFirst()
        var seen = SeenTypes()
        while let type = rest.first {
            guard rest.count >= Self.entryHeaderSize, seen.insert(type) else { return false }
            let length = Int(rest[rest.startIndex + 1]) << 8 | Int(rest[rest.startIndex + 2])
            rest = rest.dropFirst(Self.entryHeaderSize)
            guard rest.count >= length, take(type, UnsafeRawBufferPointer(rebasing: rest.prefix(length))) else {
                return false
            }
            rest = rest.dropFirst(length)
        }
        return true
    }

    /// Stores the value of one entry. Returns `false` if the value is malformed.
    private mutating func take(_ type: UInt8, _ value: UnsafeRawBufferPointer) -> Bool {
        switch type {
        case EntryType.push:
            guard value.count == 14 else { return false }
            push = Push(
                nonce: value.bigEndian(at: 0), maximumSources: value.bigEndian(at: 8), window: value.bigEndian(at: 10))
        case EntryType.cookie:
            guard value.count == 8 else { return false }
            cookie = value.bigEndian(at: 0)
        case EntryType.deadline:
            guard value.count == 4 else { return false }
            deadlineMilliseconds = value.bigEndian(at: 0)
        case EntryType.meta:
            guard let text = String(validating: value, as: UTF8.self) else { return false }
            meta = text
        case EntryType.bucket:
            guard let text = String(validating: value, as: UTF8.self) else { return false }
            bucket = text
        case EntryType.traceParent:
            guard let text = String(validating: value, as: Unicode.ASCII.self) else { return false }
            traceParent = text
        case EntryType.identity:
            // Another value proves nothing, as an entry that is not there. Earlier versions skipped this type.
            if !value.isEmpty, let text = String(validating: value, as: UTF8.self) { identity = text }
        case EntryType.source:
            guard value.count == 16 else { return false }
            source = Source(
                nonce: value.bigEndian(at: 0), streamPort: value.bigEndian(at: 8), index: value.bigEndian(at: 12))
        default:
            break
        }
        return true
    }

    /// The entry types read so far, one bit per type. A `Set` would allocate for every request.
    private struct SeenTypes {
        private var bits = SIMD4<UInt64>()

        /// Returns `false` if `type` was inserted before.
        mutating func insert(_ type: UInt8) -> Bool {
            let word = Int(type / 64)
            let bit: UInt64 = 1 << UInt64(type % 64)
            guard bits[word] & bit == 0 else { return false }
            bits[word] |= bit
            return true
        }
    }
}

extension UnsafeRawBufferPointer {
    /// The big-endian integer at `offset`, which is within the bytes.
    fileprivate func bigEndian<Value: FixedWidthInteger & BitwiseCopyable>(at offset: Int) -> Value {
        precondition(offset + MemoryLayout<Value>.size <= count, "beyond the value of an entry")
        return Value(bigEndian: loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
}

// MARK: - Encoding

extension DialBlock {
    /// Size of the encoded block in bytes.
    package var encodedSize: Int {
        var size = 1
        if push != nil { size += Self.entryHeaderSize + 14 }
        if cookie != nil { size += Self.entryHeaderSize + 8 }
        if deadlineMilliseconds != nil { size += Self.entryHeaderSize + 4 }
        if let texts {
            if let meta = texts.meta { size += Self.entryHeaderSize + meta.utf8.count }
            if let bucket = texts.bucket { size += Self.entryHeaderSize + bucket.utf8.count }
            if let traceParent = texts.traceParent { size += Self.entryHeaderSize + traceParent.utf8.count }
            if let identity = texts.identity { size += Self.entryHeaderSize + identity.utf8.count }
        }
        if source != nil { size += Self.entryHeaderSize + 16 }
        return size
    }

    /// Checks that the block can be encoded. Its tags and trace parent come from the caller of this library.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached` if the block is larger than ``maximumSize`` or the trace
    ///   parent is not ASCII.
    package func validate() throws(AstraNetError) {
        guard encodedSize <= Self.maximumSize else {
            throw AstraNetError(
                .limitReached,
                "the request's tags and trace parent need a dial block of \(encodedSize) bytes, at most "
                    + "\(Self.maximumSize) are allowed; shorten them")
        }
        guard traceParent?.utf8.allSatisfy({ $0 < 0x80 }) ?? true else {
            throw AstraNetError(.limitReached, "the trace parent is not ASCII")
        }
    }

    /// Appends the encoded block to `buffer`, entries in ascending order of their types. The block must be valid
    /// (``validate()``).
    package func encode(into buffer: inout ByteBuffer) {
        let size = encodedSize
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { bytes in
            encode(into: bytes)
            return size
        }
    }

    /// Writes the encoded block to the front of `bytes`, which are at least ``encodedSize``.
    package func encode(into bytes: UnsafeMutableRawBufferPointer) {
        // Not one `ByteBuffer.writeInteger` for each field: that costs ten times as many instructions.
        var writer = EntryWriter(bytes: bytes)
        writer.put(Self.version)
        if let push {
            writer.begin(EntryType.push, length: 14)
            writer.put(push.nonce)
            writer.put(push.maximumSources)
            writer.put(push.window)
        }
        if let cookie {
            writer.begin(EntryType.cookie, length: 8)
            writer.put(cookie)
        }
        if let deadlineMilliseconds {
            writer.begin(EntryType.deadline, length: 4)
            writer.put(deadlineMilliseconds)
        }
        if let texts {
            if let meta = texts.meta { writer.put(EntryType.meta, meta) }
            if let bucket = texts.bucket { writer.put(EntryType.bucket, bucket) }
            if let traceParent = texts.traceParent { writer.put(EntryType.traceParent, traceParent) }
            if let identity = texts.identity { writer.put(EntryType.identity, identity) }
        }
        if let source {
            writer.begin(EntryType.source, length: 16)
            writer.put(source.nonce)
            writer.put(source.streamPort)
            writer.put(source.index)
        }
    }
}

/// Writes the entries of a block one behind the other.
private struct EntryWriter {
    let bytes: UnsafeMutableRawBufferPointer
    private var count = 0

    init(bytes: UnsafeMutableRawBufferPointer) {
        self.bytes = bytes
    }

    mutating func begin(_ type: UInt8, length: Int) {
        put(type)
        put(UInt16(length))
    }

    mutating func put(_ value: some FixedWidthInteger) {
        precondition(count + value.bitWidth / 8 <= bytes.count, "a dial block is larger than its encoded size")
        bytes.storeBytes(of: value.bigEndian, toByteOffset: count, as: type(of: value))
        count += value.bitWidth / 8
    }

    mutating func put(_ type: UInt8, _ text: String) {
        begin(type, length: text.utf8.count)
        precondition(count + text.utf8.count <= bytes.count, "a dial block is larger than its encoded size")
        UnsafeMutableRawBufferPointer(rebasing: bytes[count...]).copyBytes(from: text.utf8)
        count += text.utf8.count
    }
}

// MARK: - Forwarding

extension DialBlock {
    /// Returns the payload of a DIAL that a router forwards: with `identity` in the place of an identity that the payload
    /// claims. Keeps the other entries, also those of unknown types.
    ///
    /// A payload that the receiver must ignore is replaced as a whole: it would also make the receiver ignore the
    /// identity, and with the identity behind a cut entry it could become valid.
    ///
    /// - Returns: `nil` if the payload can be forwarded as it is.
    package static func replacingIdentity(in payload: ByteBuffer, with identity: String?) -> ByteBuffer? {
        guard payload.readableBytes > 0 else { return identity.map { identityBlock($0) } }
        guard let received = DialBlock(decoding: payload) else {
            return identity.map { identityBlock($0) } ?? ByteBuffer()
        }
        // The client knows the server of a pushed source.
        let identity = received.source == nil ? identity : nil
        guard identity != nil || claimsIdentity(payload) else { return nil }
        var block = identity.map { identityBlock($0) } ?? ByteBuffer(integer: version)
        forEachEntry(of: payload) { type, entry in
            if type != EntryType.identity { block.writeBytes(entry) }
        }
        return block
    }

    private static func identityBlock(_ identity: String) -> ByteBuffer {
        var block = ByteBuffer(integer: version)
        block.writeInteger(EntryType.identity)
        block.writeInteger(UInt16(identity.utf8.count))
        block.writeString(identity)
        return block
    }

    private static func claimsIdentity(_ payload: ByteBuffer) -> Bool {
        var claims = false
        forEachEntry(of: payload) { type, _ in claims = claims || type == EntryType.identity }
        return claims
    }

    /// Calls `body` with the type of each entry of a valid block, and all its bytes.
    private static func forEachEntry(of payload: ByteBuffer, _ body: (UInt8, ByteBufferView) -> Void) {
        var rest = payload.readableBytesView.dropFirst()
        while let type = rest.first, rest.count >= entryHeaderSize {
            let length = Int(rest[rest.startIndex + 1]) << 8 | Int(rest[rest.startIndex + 2])
            let entry = rest.prefix(entryHeaderSize + length)
            body(type, entry)
            rest = rest.dropFirst(entry.count)
        }
    }
}
