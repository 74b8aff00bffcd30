internal import Synchronization

/// What has come of an op whose rest has not, on one link: written by its event loop, and looked at by others where all links
/// together hold as much as they may.
final class HalfOp: Sendable {
    private let bytes = Atomic<Int>(0)
    private let since = Atomic<UInt64>(0)

    /// How many bytes there are.
    var count: Int { bytes.load(ordering: .relaxed) }

    /// There are `count` bytes now.
    ///
    /// - Parameter isSame: whether they are of the op of which there were some before.
    func become(_ count: Int, now: UInt64, isSame: Bool) {
        if !isSame { since.store(now, ordering: .relaxed) }
        bytes.store(count, ordering: .relaxed)
    }

    /// Bytes by nanoseconds: an op on its way weighs little, one that never ends more and more.
    func weight(now: UInt64) -> Double {
        let since = since.load(ordering: .relaxed)
        return Double(count) * Double(now > since ? now - since : 1)
    }
}

extension NodeCore {
    /// More of an op has come over `link` than all links together may make this node hold.
    ///
    /// Whatever fills that, half ops may have an eighth of it for themselves: a link must not go because of what others hold.
    /// Beyond that the one goes which has held the most for the longest.
    ///
    /// - Returns: whether `link` may hold what has come.
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
        // It goes when its event loop comes to it; until then it is not to be chosen again.
        heaviest.halfOp.become(0, now: now, isSame: false)
        heaviest.close(Self.tooManyHalfOps)
        return true
    }

    static var tooManyHalfOps: AstraNetError {
        AstraNetError(.limitReached, "this node holds as many bytes as it may, and of an op only a part came for long")
    }
}
