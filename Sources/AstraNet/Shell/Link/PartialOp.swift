internal import Synchronization

/// The size and age of a partly received op of one link.
///
/// The link's event loop writes it. The event loops of other links read it when all links together have reached their
/// limit.
final class PartialOp: Sendable {
    private let bytes = Atomic<Int>(0)
    private let since = Atomic<UInt64>(0)

    /// Number of received bytes.
    var count: Int { bytes.load(ordering: .relaxed) }

    /// Sets the number of received bytes.
    ///
    /// - Parameter isSame: whether the bytes belong to the same op as before. If not, the age starts at `now`
    ///   (nanoseconds).
    func become(_ count: Int, now: UInt64, isSame: Bool) {
        if !isSame { since.store(now, ordering: .relaxed) }
        bytes.store(count, ordering: .relaxed)
    }

    /// Returns the number of bytes times their age in nanoseconds. An op that arrives at normal speed has a small
    /// weight. The weight of an op that never ends grows without limit.
    func weight(now: UInt64) -> Double {
        let since = since.load(ordering: .relaxed)
        return Double(count) * Double(now > since ? now - since : 1)
    }
}

extension NodeCore {
    /// Decides which link, if any, must close when bytes of a partly received op on `link` exceed the node's buffer
    /// limit.
    ///
    /// Partly received ops may always use an eighth of the limit, so that a link does not close because of bytes that
    /// other links hold. Beyond that, the link whose op has the largest weight (bytes times age) closes.
    ///
    /// - Returns: whether `link` may hold the bytes. If `false`, the caller closes `link`.
    func freeBuffer(forPartialOpOf link: Link) -> Bool {
        let now = now
        var total = 0
        var heaviestOp: (link: Link, weight: Double)?
        for other in directory.allLinks {
            total += other.partialOp.count
            let weight = other.partialOp.weight(now: now)
            if weight > heaviestOp?.weight ?? 0 { heaviestOp = (other, weight) }
        }
        guard total > max(configuration.maximumBuffered / 8, OpHeader.size + Op.largePayload),
            let heaviest = heaviestOp?.link
        else {
            return true
        }
        if heaviest === link { return false }
        // The link closes in a later turn of its event loop. Until then it must not be chosen again.
        heaviest.partialOp.become(0, now: now, isSame: false)
        heaviest.close(Self.tooManyPartialOps)
        return true
    }

    static var tooManyPartialOps: AstraNetError {
        AstraNetError(.limitReached, "this node has reached its buffer limit, and an op of the link arrives too slowly")
    }
}
