package import NIOCore

/// The repetitions that a caller allows.
package protocol DialRepeats: AnyObject, Sendable {
    /// Takes one repetition. Returns `false` if none is left.
    func take() -> Bool
    /// Returns a repetition that was not needed.
    func giveBack()
}

/// The options of a dial.
package struct DialRequest: Sendable {
    /// Selects the offer. The same bucket selects the same offer as long as the set of offers stays the same. `nil`
    /// selects one at random.
    package var bucket: String?
    /// The stream on which the caller received the name; `nil` if it was not received on a stream. Only the
    /// host that sent the name is dialled, over links to the same peer (``NamePath``).
    package var peer: MeshStream?
    /// Bytes that are sent together with the DIAL, or as soon as the stream is open.
    package var first: ByteBuffer
    /// The tags and the trace parent of the request; `nil` for none.
    package var texts: DialBlock.Texts?
    /// The deadline of the request. The DIAL tells the server how much time is left. `nil` for none.
    package var deadline: ContinuousClock.Instant?
    /// The maximum number of pushed sources that are not accepted yet; 0 if the server may not push.
    package var maximumPushedSources: Int
    /// How often the bytes may be sent to another node although this one may have received them. `nil`: never.
    package var repeats: (any DialRepeats)?

    package init(
        bucket: String? = nil, peer: MeshStream? = nil, first: ByteBuffer = ByteBuffer(),
        texts: DialBlock.Texts? = nil,
        deadline: ContinuousClock.Instant? = nil, maximumPushedSources: Int = 0,
        repeats: (any DialRepeats)? = nil
    ) {
        self.bucket = bucket
        self.peer = peer
        self.first = first
        self.texts = texts
        self.deadline = deadline
        self.maximumPushedSources = maximumPushedSources
        self.repeats = repeats
    }

    /// Checks that the block of the DIAL does not become too long, including the entries that the dial adds.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached`.
    func validate() throws(AstraNetError) {
        guard let texts else { return }
        var block = DialBlock()
        block.texts = texts
        if maximumPushedSources > 0 {
            block.push = DialBlock.Push(nonce: 0, maximumSources: 0, window: 0)
            block.cookie = 0
        }
        if deadline != nil { block.deadlineMilliseconds = 0 }
        try block.validate()
    }
}
