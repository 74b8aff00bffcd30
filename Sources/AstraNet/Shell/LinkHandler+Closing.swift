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
    /// Whoever calls this sees to it that it is closed without the peer in the end.
    private func closeOrderly(_ reason: AstraNetError) {
        guard let context, closeReason == nil else { return }
        noteClosing(reason)
        end(reason)
        let link = link
        context.close(mode: .output).whenFailure { _ in link.handler.value?.close(reason) }
    }

    /// Closes the link once all that was written to closed streams is out, at the latest at the deadline.
    func closeWhenFlushed(deadline: NIODeadline) {
        guard context != nil, closeReason == nil, !closesWhenFlushed else { return }
        closesWhenFlushed = true
        close(Self.nodeIsClosed, at: deadline)
        flush()
    }

    private func close(_ reason: AstraNetError, at deadline: NIODeadline) {
        let link = link
        link.eventLoop.scheduleTask(deadline: deadline) { link.handler.value?.close(reason) }
    }

    func closeIfFlushed() {
        guard closesWhenFlushed, closeReason == nil, opening.isEmpty, backlog.isEmpty, !streams.hasLingering,
            link.isOutboundEmpty
        else { return }
        closesWhenFlushed = false
        let link = link
        // Its promise comes after all that was written before it.
        context?.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            link.handler.value?.closeOrderly(Self.nodeIsClosed)
        }
    }

    /// A retired link goes when it has had no streams for a while: the peer may dial over it until it knows the other one.
    func closeIfUnused() {
        let isUsed =
            streams.count > 0 || link.hasForwarded.load(ordering: .relaxed) || node.hasScopedNames(on: link)
        idleSinceRetired = isUsed ? 0 : idleSinceRetired + 1
        guard idleSinceRetired >= 3 else { return }
        let reason = AstraNetError(.closed, "another link leads to the same host")
        close(reason, at: link.eventLoop.now + Self.lastRead)
        closeOrderly(reason)
    }
}
