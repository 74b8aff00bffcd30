internal import Synchronization

/// The received part of an incomplete op on one link. The event loop of the link writes it. Other event loops read it
/// when the buffer limit of all links is reached.
final class HalfOp: Sendable {
    private let bytes = Atomic<Int>(0)
    private let since = Atomic<UInt64>(0)

    /// The number of received bytes.
    var count: Int { bytes.load(ordering: .relaxed) }

    /// Sets the number of received bytes.
    ///
    /// - Parameter isSame: whether the bytes belong to the same op as before.
    func become(_ count: Int, now: UInt64, isSame: Bool) {
        if !isSame { since.store(now, ordering: .relaxed) }
        bytes.store(count, ordering: .relaxed)
    }

    /// The received bytes times the nanoseconds since their arrival. An op that is arriving weighs little; one that
    /// never completes weighs more and more.
    func weight(now: UInt64) -> Double {
        let since = since.load(ordering: .relaxed)
        return Double(count) * Double(now > since ? now - since : 1)
    }
}

extension NodeCore {
    /// Makes room for a part of an op that exceeds the buffer limit of all links.
    ///
    /// Incomplete ops may use up to an eighth of that limit in addition, so that no link is closed because of what
    /// other links buffer. Beyond that, the link with the largest weight is closed.
    ///
    /// - Returns: whether `link` may keep the bytes; `false` if it is the link with the largest weight.
    func makeRoom(forHalfOpOf link: Link) -> Bool {
        let now = now
        let (total, heaviest) = shared.withLockedValue { shared in
            var total = 0
            var heaviest: (link: Link, weight: Double)?
            for other in shared.links.all {
                total += other.halfOp.count
                let weight = other.halfOp.weight(now: now)
                if weight > heaviest?.weight ?? 0 { heaviest = (other, weight) }
            }
            return (total, heaviest?.link)
        }
        guard total > max(configuration.maximumBuffered / 8, OpHeader.size + Op.largePayload), let heaviest else {
            return true
        }
        if heaviest === link { return false }
        // The link closes later, on its event loop. Until then it must not be chosen again.
        heaviest.halfOp.become(0, now: now, isSame: false)
        heaviest.close(Self.tooManyHalfOps)
        return true
    }

    static var tooManyHalfOps: AstraNetError {
        AstraNetError(.limitReached, "the buffer limit of this node is reached, and an op on this link is incomplete")
    }
}
