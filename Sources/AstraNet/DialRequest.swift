package import NIOCore

/// The options of a dial.
package struct DialRequest: Sendable {
    /// Selects the offer. The same bucket selects the same offer as long as the set of offers stays the same. `nil`
    /// selects one at random.
    package var bucket: String?
    /// The stream on which the caller received the name; `nil` if it was not received on a stream.
    package var peer: MeshStream?
    /// Bytes that are sent together with the DIAL, or as soon as the stream is open.
    package var first: ByteBuffer
    /// The tags and the trace parent of the request.
    package var context: DialBlock
    /// The deadline of the request. The DIAL tells the server how much time is left. `nil` for none.
    package var deadline: ContinuousClock.Instant?
    /// The maximum number of pushed sources that are not accepted yet; 0 if the server may not push.
    package var maximumPushedSources: Int

    /// Takes one of the repetitions that the caller allows: the bytes may be sent to another node although this one may
    /// have received them. Returns `false` if none is left. `nil`: the bytes must not be sent twice.
    package var takeRepeat: (@Sendable () -> Bool)?
    /// Returns a repetition that was not needed.
    package var returnRepeat: (@Sendable () -> Void)?

    package init(
        bucket: String? = nil, peer: MeshStream? = nil, first: ByteBuffer = ByteBuffer(),
        context: DialBlock = DialBlock(),
        deadline: ContinuousClock.Instant? = nil, maximumPushedSources: Int = 0
    ) {
        self.bucket = bucket
        self.peer = peer
        self.first = first
        self.context = context
        self.deadline = deadline
        self.maximumPushedSources = maximumPushedSources
    }

    /// Checks that the block of the DIAL does not become too long, including the entries that the dial adds to the
    /// context.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached`.
    func validate() throws(AstraNetError) {
        guard !context.isEmpty else { return }
        var block = context
        if maximumPushedSources > 0 {
            block.push = DialBlock.Push(nonce: 0, maximumSources: 0, window: 0)
            block.cookie = 0
        }
        if deadline != nil { block.deadlineMilliseconds = 0 }
        try block.validate()
    }
}
