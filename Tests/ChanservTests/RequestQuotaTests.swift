import Chanserv
import Testing

@Suite struct RequestQuotaTests {
    private let start = ContinuousClock.now

    private func table(
        _ requests: Int, per period: Duration = .seconds(1), burst: Int, concurrent: Int? = nil, keys: Int = 65_536
    ) -> QuotaTable {
        QuotaTable(
            RequestQuota(
                rate: RequestQuota.Rate(requests: requests, per: period, burst: burst), concurrent: concurrent),
            maximumKeys: keys)
    }

    @Test func `a caller gets the burst at once and then the rate`() {
        var table = table(10, burst: 3)
        for _ in 0..<3 { #expect(table.take("a", now: start) == .admitted) }
        #expect(table.take("a", now: start) == .busy(retryAfter: .milliseconds(100)))
        #expect(table.take("a", now: start + .milliseconds(60)) == .busy(retryAfter: .milliseconds(40)))
        #expect(table.take("a", now: start + .milliseconds(100)) == .admitted)
        #expect(table.take("a", now: start + .milliseconds(100)) == .busy(retryAfter: .milliseconds(100)))
        // A long pause fills the bucket up to the burst and not beyond.
        let later = start + .seconds(3_600)
        for _ in 0..<3 { #expect(table.take("a", now: later) == .admitted) }
        #expect(table.take("a", now: later) == .busy(retryAfter: .milliseconds(100)))
    }

    @Test func `callers do not share a bucket`() {
        var table = table(1, burst: 1)
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("a", now: start) == .busy(retryAfter: .seconds(1)))
        #expect(table.take("b", now: start) == .admitted)
    }

    @Test func `a rate that does not divide a second admits its exact number of requests`() {
        var table = table(3, burst: 2)
        var now = start
        var admitted = 0
        for _ in 0..<100_000 {
            switch table.take("a", now: now) {
            case .admitted: admitted += 1
            case .busy(let time): now += time
            case .tooManyConcurrent: Issue.record("there is no such limit")
            }
        }
        // The burst, and then every other step waits: 333,333,334 ns, 333,333,333 ns, 333,333,333 ns, and so on.
        #expect(admitted == 2 + 49_999)
        #expect(start.duration(to: now) == .nanoseconds((49_999 * 1_000_000_000 + 2) / 3))
    }

    @Test func `fractions of a nanosecond are not lost`() {
        var table = table(1, per: .nanoseconds(1_000), burst: 1)
        #expect(table.take("a", now: start) == .admitted)
        let half = Duration(secondsComponent: 0, attosecondsComponent: 500_000_000)
        var now = start
        for _ in 0..<1_999 {
            now += half
            #expect(table.take("a", now: now) != .admitted)
        }
        #expect(table.take("a", now: now + half) == .admitted)
    }

    @Test func `a refused request costs nothing`() {
        var table = table(1, burst: 1, concurrent: 1)
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("a", now: start + .seconds(1)) == .tooManyConcurrent)
        table.release("a")
        for _ in 0..<10 { #expect(table.take("a", now: start) == .busy(retryAfter: .seconds(1))) }
        #expect(table.take("a", now: start + .seconds(1)) == .admitted)
    }

    @Test func `open requests are limited for each caller until they are released`() {
        var table = QuotaTable(RequestQuota(concurrent: 2))
        for _ in 0..<2 { #expect(table.take("a", now: start) == .admitted) }
        #expect(table.take("a", now: start + .seconds(3_600)) == .tooManyConcurrent)
        #expect(table.take("b", now: start) == .admitted)
        table.release("a")
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("a", now: start) == .tooManyConcurrent)
        for key in ["a", "a", "b"] { table.release(key) }
        #expect(table.count == 0)
        // An end too many frees no place for more requests than the limit.
        table.release("a")
        for _ in 0..<2 { #expect(table.take("a", now: start) == .admitted) }
        #expect(table.take("a", now: start) == .tooManyConcurrent)
    }

    @Test func `a clock that goes back adds no tokens`() {
        var table = table(1, burst: 2)
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("a", now: start - .seconds(100)) == .admitted)
        #expect(table.take("a", now: start - .seconds(100)) == .busy(retryAfter: .seconds(1)))
        #expect(table.take("a", now: start) == .busy(retryAfter: .seconds(1)))
        #expect(table.take("a", now: start + .seconds(1)) == .admitted)
    }

    @Test func `the largest rate, burst and times do not overflow`() {
        var slow = table(1, per: .seconds(3_600), burst: 1_000_000)
        for _ in 0..<1_000_000 where slow.take("a", now: start) != .admitted { Issue.record("not admitted") }
        #expect(slow.take("a", now: start) == .busy(retryAfter: .seconds(3_600)))
        #expect(slow.take("a", now: start + .seconds(8_000_000_000)) == .admitted)
        var fast = table(1_000_000, per: .nanoseconds(1), burst: 1_000_000)
        #expect(fast.take("a", now: start) == .admitted)
        #expect(fast.take("a", now: start + .seconds(20_000_000_000)) == .admitted)
    }

    @Test func `idle full buckets make place for new keys`() {
        var table = table(1, burst: 1, keys: 2)
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("b", now: start) == .admitted)
        table.release("a")
        // `a` is full again, `b` has an open request.
        let later = start + .seconds(1)
        #expect(table.take("c", now: later) == .admitted)
        #expect(table.count == 2)
        #expect(table.take("c", now: later) == .busy(retryAfter: .seconds(1)))
        // There is no second search within a second, so `d` and `e` share a bucket.
        table.release("b")
        #expect(table.take("d", now: later + .milliseconds(999)) == .admitted)
        #expect(table.take("e", now: later + .milliseconds(999)) == .busy(retryAfter: .seconds(1)))
    }

    @Test func `an idle bucket that is not full is kept, so that its caller stays limited`() {
        var table = table(1, burst: 1, keys: 1)
        #expect(table.take("a", now: start) == .admitted)
        table.release("a")
        let soon = start + .milliseconds(500)
        #expect(table.take("b", now: soon) == .admitted)
        #expect(table.take("a", now: soon) == .busy(retryAfter: .milliseconds(500)))
    }

    @Test func `new keys share one bucket while all others are active`() {
        var table = table(10, burst: 2, concurrent: 3, keys: 2)
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("b", now: start) == .admitted)
        #expect(table.take("c", now: start) == .admitted)
        #expect(table.take("d", now: start) == .admitted)
        #expect(table.take("e", now: start) == .busy(retryAfter: .milliseconds(100)))
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.count == 2)
        let later = start + .seconds(2)
        #expect(table.take("e", now: later) == .admitted)
        #expect(table.take("f", now: later) == .tooManyConcurrent)
        table.release("c")
        #expect(table.take("f", now: later) == .admitted)
        // The shared bucket does not lose or keep requests of keys that get a bucket of their own.
        for key in ["a", "a", "b"] { table.release(key) }
        let muchLater = start + .seconds(10)
        #expect(table.take("d", now: muchLater) == .admitted)
        for key in ["d", "d", "e", "f"] { table.release(key) }
        let end = muchLater + .seconds(10)
        for key in ["x", "y", "z", "z"] { #expect(table.take(key, now: end) == .admitted) }
        #expect(table.take("z", now: end + .seconds(1)) == .admitted)
        #expect(table.take("z", now: end + .seconds(1)) == .tooManyConcurrent)
    }

    @Test func `a search for idle buckets happens at most once a second`() {
        var table = table(1_000, burst: 1, keys: 1)
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("b", now: start) == .admitted)
        table.release("a")
        // The bucket of `a` is full after 1 ms, and the shared one too.
        let soon = start + .milliseconds(500)
        #expect(table.take("c", now: soon) == .admitted)
        #expect(table.take("d", now: soon) == .busy(retryAfter: .milliseconds(1)))
        let later = start + .seconds(1)
        #expect(table.take("d", now: later) == .admitted)
        #expect(table.take("e", now: later) == .admitted)
        #expect(table.take("e", now: later) == .busy(retryAfter: .milliseconds(1)))
    }

    @Test func `another quota keeps the open requests and fills the buckets`() {
        var table = table(1, burst: 1, concurrent: 2)
        #expect(table.take("a", now: start) == .admitted)
        table.use(
            RequestQuota(rate: RequestQuota.Rate(requests: 1, per: .seconds(60), burst: 2), concurrent: 2))
        #expect(table.take("a", now: start) == .admitted)
        #expect(table.take("a", now: start) == .tooManyConcurrent)
        table.release("a")
        #expect(table.take("a", now: start) == .admitted)
        table.release("a")
        #expect(table.take("a", now: start) == .busy(retryAfter: .seconds(60)))
    }

    @Test(arguments: 0..<100 as Range<UInt64>) func `random requests have the decisions of a simple model`(seed: UInt64)
    {
        var random = Xorshift(seed: seed)
        let tokens = random.next(1...[1, 7, 1_000, 1_000_000].randomElement(using: &random)!)
        let period = [1, 1_000_003, 1_000_000_000, 60_000_000_000, 3_600_000_000_000].randomElement(using: &random)!
        let burst = random.next(1...[1, 5, 1_000_000].randomElement(using: &random)!)
        let concurrent = [nil, 1, 10].randomElement(using: &random)!
        var table = table(tokens, per: .nanoseconds(period), burst: burst, concurrent: concurrent)
        var model = Model(tokens: tokens, period: period, burst: burst, concurrent: concurrent)
        var time = 0
        for _ in 0..<1_000 {
            // Pauses of all magnitudes, so that buckets are empty, partly full and full.
            time += random.next(0...1) == 0 ? 0 : random.next(0...(1 << random.next(0...42)))
            let key = "\(random.next(0...4))"
            if random.next(0...2) == 0, model.release(key) {
                table.release(key)
            } else {
                let decision = table.take(key, now: start + .nanoseconds(time))
                #expect(decision == model.take(key, at: time), "seed \(seed)")
                // The time to wait is exact: it is enough, and 1 ns less is not.
                guard case .busy(let wait) = decision else { continue }
                var (early, late) = (table, table)
                #expect(late.take(key, now: start + .nanoseconds(time) + wait) == .admitted, "seed \(seed)")
                let before = start + .nanoseconds(time) + wait - .nanoseconds(1)
                #expect(early.take(key, now: before) == .busy(retryAfter: .nanoseconds(1)), "seed \(seed)")
            }
        }
    }
}

/// The quota as the theory of a virtual schedule (GCRA) has it, with 128 bits.
private struct Model {
    let tokens: Int
    let period: Int
    let burst: Int
    let concurrent: Int?
    /// The time at which each bucket is full, in nanoseconds times `tokens`.
    private var fullAt: [String: Int128] = [:]
    private var open: [String: Int] = [:]

    init(tokens: Int, period: Int, burst: Int, concurrent: Int?) {
        self.tokens = tokens
        self.period = period
        self.burst = burst
        self.concurrent = concurrent
    }

    mutating func take(_ key: String, at time: Int) -> QuotaTable.Decision {
        if let concurrent, open[key, default: 0] >= concurrent { return .tooManyConcurrent }
        let now = Int128(time) * Int128(tokens)
        let full = max(fullAt[key] ?? now, now) + Int128(period)
        let latest = now + Int128(burst) * Int128(period)
        guard full <= latest else {
            return .busy(retryAfter: .nanoseconds(Int64((full - latest + Int128(tokens) - 1) / Int128(tokens))))
        }
        fullAt[key] = full
        open[key, default: 0] += 1
        return .admitted
    }

    /// Returns whether the key had an open request.
    mutating func release(_ key: String) -> Bool {
        guard let count = open[key], count > 0 else { return false }
        open[key] = count - 1
        return true
    }
}

private struct Xorshift: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }

    mutating func next(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
}
