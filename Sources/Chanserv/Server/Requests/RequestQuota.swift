/// Limits on the requests of one caller to a service.
package struct RequestQuota: Sendable, Hashable {
    /// How fast the bucket of a caller fills; `nil` for no limit.
    package var rate: Rate?
    /// Maximum open requests of a caller; `nil` for no limit.
    package var concurrent: Int?

    package init(rate: Rate? = nil, concurrent: Int? = nil) {
        self.rate = rate
        self.concurrent = concurrent
    }

    /// A token bucket: a request takes one token.
    package struct Rate: Sendable, Hashable {
        /// The tokens that are added in ``period``.
        fileprivate let tokens: UInt64
        /// The time in which they are added, in nanoseconds.
        fileprivate let period: UInt64
        /// Maximum tokens in the bucket.
        fileprivate let burst: UInt64

        /// - Parameters:
        ///   - requests: requests in `period`, 1 to 1,000,000.
        ///   - period: more than 0, at most one hour.
        ///   - burst: requests at once after a pause, 1 to 1,000,000.
        package init(requests: Int, per period: Duration, burst: Int) {
            // Within these ranges no product below overflows 64 bits.
            precondition((1...1_000_000).contains(requests) && (1...1_000_000).contains(burst), "rate out of range")
            precondition(period >= .nanoseconds(1) && period <= .seconds(3_600), "period out of range")
            tokens = UInt64(requests)
            self.period = period.wholeNanoseconds
            self.burst = UInt64(burst)
        }
    }
}

/// The requests of all callers of a service, and which further ones its quota admits. A value without a clock and a
/// lock.
package struct QuotaTable: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// The decision about a request.
    package enum Decision: Sendable, Hashable {
        /// Serve the request and call ``QuotaTable/release(_:)`` at its end.
        case admitted
        /// The bucket is empty. The time after which it has a token, if the caller makes no other request.
        case busy(retryAfter: Duration)
        /// The caller has the maximum number of open requests.
        case tooManyConcurrent
    }

    /// The requests of one caller.
    fileprivate struct Bucket: Sendable {
        /// What is missing in the bucket, in units of which one request takes ``RequestQuota/Rate/period`` and one
        /// nanosecond adds ``RequestQuota/Rate/tokens``. With these units all results are exact integers.
        var missing: UInt64 = 0
        /// The time up to which the bucket was filled.
        var filledUntil: Instant
        var open = 0
    }

    /// Minimum time between two searches for buckets that can be dropped. A search visits all keys, so that callers
    /// with new keys could otherwise use all processor time.
    package static let searchInterval = Duration.seconds(1)

    private var quota: RequestQuota
    private let maximumKeys: Int
    private var buckets: [String: Bucket] = [:]
    /// The bucket that new keys share while there are ``maximumKeys`` others.
    private var overflow: Bucket?
    private var nextSearch: Instant?

    /// - Parameter maximumKeys: maximum keys with a bucket of their own.
    package init(_ quota: RequestQuota, maximumKeys: Int = 65_536) {
        self.quota = quota
        self.maximumKeys = maximumKeys
    }

    /// The number of keys with a bucket of their own.
    package var count: Int { buckets.count }

    /// Uses another quota from now on. Open requests keep counting. If the rate changes, all buckets are full.
    package mutating func use(_ quota: RequestQuota) {
        if quota.rate != self.quota.rate {
            for key in buckets.keys { buckets[key]?.missing = 0 }
            overflow?.missing = 0
        }
        self.quota = quota
    }

    /// Decides about a request, and counts it if it is admitted.
    ///
    /// - Parameters:
    ///   - key: the caller.
    ///   - now: the current time. An earlier one than before counts as no time at all.
    package mutating func take(_ key: String, now: Instant) -> Decision {
        if buckets[key] == nil, buckets.count >= maximumKeys { dropIdleBuckets(now: now) }
        if buckets[key] != nil || buckets.count < maximumKeys {
            return buckets[key, default: Bucket(filledUntil: now)].take(quota, now: now)
        }
        var shared = overflow ?? Bucket(filledUntil: now)
        defer { overflow = shared }
        return shared.take(quota, now: now)
    }

    /// Ends a request that was admitted.
    ///
    /// A request that was counted in the shared bucket may end after its key has got a bucket of its own. Then its end
    /// counts there first, and the end of the other request in the shared bucket.
    package mutating func release(_ key: String) {
        if let bucket = buckets[key], bucket.open > 0 {
            // Without a rate an idle bucket has no state.
            if bucket.open == 1, quota.rate == nil {
                buckets[key] = nil
            } else {
                buckets[key]?.open -= 1
            }
        } else if let open = overflow?.open, open > 0 {
            overflow?.open = open - 1
        }
    }

    /// Drops the buckets that are full and have no open request. A new bucket is in the same state.
    private mutating func dropIdleBuckets(now: Instant) {
        if let nextSearch, now < nextSearch { return }
        nextSearch = now + Self.searchInterval
        buckets = buckets.filter { _, bucket in
            var bucket = bucket
            if let rate = quota.rate { bucket.fill(rate, until: now) }
            return bucket.open > 0 || bucket.missing > 0
        }
    }
}

extension QuotaTable.Bucket {
    fileprivate mutating func take(_ quota: RequestQuota, now: QuotaTable.Instant) -> QuotaTable.Decision {
        if let concurrent = quota.concurrent, open >= concurrent { return .tooManyConcurrent }
        if let rate = quota.rate {
            fill(rate, until: now)
            // At most 10⁶ · 3.6 · 10¹², and one period more in the sum.
            let (wanted, capacity) = (missing + rate.period, rate.burst * rate.period)
            guard wanted <= capacity else {
                let wait = (wanted - capacity + rate.tokens - 1) / rate.tokens
                return .busy(retryAfter: .nanoseconds(Int64(wait)))
            }
            missing = wanted
        }
        open += 1
        return .admitted
    }

    fileprivate mutating func fill(_ rate: RequestQuota.Rate, until now: QuotaTable.Instant) {
        let elapsed = filledUntil.duration(to: now)
        guard elapsed > .zero else { return }
        let nanoseconds = elapsed.wholeNanoseconds
        if nanoseconds > missing / rate.tokens {
            missing = 0
            filledUntil = now
        } else {
            missing -= nanoseconds * rate.tokens
            // Not `now`: the rest of less than a nanosecond counts the next time.
            filledUntil += .nanoseconds(Int64(nanoseconds))
        }
    }
}

extension Duration {
    /// The whole nanoseconds of a duration that is not negative; at most 9 · 10¹⁸ (285 years).
    fileprivate var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds < 9_000_000_000 else { return 9_000_000_000_000_000_000 }
        return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
}
