internal import NIOCore

/// Ends of links that lose nothing: what was said before is out, and the peer can read it.
extension LinkHandler {
    /// How long a peer has to close, too, a link that nothing uses.
    private static let lastRead = TimeAmount.seconds(5)
    private static let nodeIsClosed = AstraNetError(.closed, "the node is closed")

    /// Ends the link and all that runs over it, as far as this node is concerned, so that the peer can still read what has
    /// left here.
    ///
    /// Where a connection is closed with bytes that nobody has read, the system resets it, and what is under way is lost
    /// (RFC 1122 section 4.2.2.13). So nothing more is sent, and what comes is thrown away, until the peer has closed too.
    ///
    /// - Parameter deadline: when it is closed without the peer.
    private func closeOrderly(_ reason: AstraNetError, deadline: NIODeadline) {
        guard let context, closeReason == nil else { return }
        noteClosing(reason)
        end(reason)
        let link = link
        context.eventLoop.scheduleTask(deadline: deadline) { link.handler.value?.close(reason) }
        context.close(mode: .output).whenFailure { _ in link.handler.value?.close(reason) }
    }

    /// Closes the link once all that was written to closed streams is out, at the latest at the deadline.
    func closeWhenFlushed(deadline: NIODeadline) {
        guard let context, closeReason == nil, closesWhenFlushed == nil else { return }
        closesWhenFlushed = deadline
        let link = link
        context.eventLoop.scheduleTask(deadline: deadline) { link.handler.value?.close(Self.nodeIsClosed) }
        flush()
    }

    func closeIfFlushed() {
        guard let deadline = closesWhenFlushed, closeReason == nil, backlog.isEmpty, !streams.hasLingering,
            link.isOutboundEmpty
        else { return }
        let link = link
        // Its promise comes after all that was written before it.
        context?.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            link.handler.value?.closeOrderly(Self.nodeIsClosed, deadline: deadline)
        }
    }

    /// A retired link goes when it has had no streams for a while: the peer may dial over it until it knows the other one.
    func closeIfUnused() {
        let isUsed =
            streams.count > 0 || link.hasForwarded.load(ordering: .relaxed) || node.hasScopedNames(on: link)
        idleSinceRetired = isUsed ? 0 : idleSinceRetired + 1
        guard idleSinceRetired >= 3 else { return }
        closeOrderly(
            AstraNetError(.closed, "another link leads to the same host"),
            deadline: link.eventLoop.now + Self.lastRead)
    }
}
