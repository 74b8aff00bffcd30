/// The distribution of times, with a relative error of at most 1/16.
///
/// The buckets are those of an HDR histogram: each power of two has eight of them. A histogram takes at most 2 KiB.
package struct LatencyHistogram: Sendable, Hashable {
    /// The number of buckets of each power of two, as a power of two.
    private static let subBucketBits = 3
    /// Longer times count as this one.
    private static let maximum = Duration.seconds(3_600)

    /// The number of times in each bucket. It has no element after the last bucket in use.
    private var buckets: [Int] = []
    package private(set) var count = 0

    package init() {}

    package mutating func add(_ time: Duration) {
        let bucket = Self.bucket(of: time)
        if bucket >= buckets.count { buckets += Array(repeating: 0, count: bucket + 1 - buckets.count) }
        buckets[bucket] += 1
        count += 1
    }

    /// The time that half of the times do not exceed; `nil` if there are none.
    package var median: Duration? {
        var rest = (count + 1) / 2
        for (bucket, number) in buckets.enumerated() where number > 0 {
            rest -= number
            if rest <= 0 { return .microseconds(Int64(Self.middle(of: bucket))) }
        }
        return nil
    }

    /// Returns the share of pairs of a time of this histogram and one of `other` in which the first is more than
    /// `factor` times the second, and by more than `difference` longer. Pairs at the limit count half. This is the
    /// statistic of Mann and Whitney, divided by the number of pairs. It is 0.5 for equal distributions, a factor of 1 and
    /// no difference.
    package func shareExceeding(
        _ factor: Double, times other: LatencyHistogram, andBy difference: Duration = .zero
    ) -> Double {
        guard count > 0, other.count > 0 else { return 0.5 }
        let least = difference / .microseconds(1)
        func limit(of bucket: Int) -> Double {
            let time = Self.middle(of: bucket)
            return max(time * factor, time + least)
        }
        var pairs = 0.0
        // The number of times of `other` in buckets before `next`.
        var (next, below) = (0, 0)
        for (bucket, number) in buckets.enumerated() where number > 0 {
            let time = Self.middle(of: bucket)
            while next < other.buckets.count, limit(of: next) < time {
                below += other.buckets[next]
                next += 1
            }
            var share = Double(below)
            if next < other.buckets.count, limit(of: next) == time {
                share += Double(other.buckets[next]) / 2
            }
            pairs += share * Double(number)
        }
        return pairs / (Double(count) * Double(other.count))
    }

    /// Returns the bucket of a time in microseconds.
    private static func bucket(of time: Duration) -> Int {
        let microseconds = UInt64(max(0, min(time, maximum) / .microseconds(1)))
        guard microseconds >= 1 << subBucketBits else { return Int(microseconds) }
        let exponent = UInt64.bitWidth - 1 - microseconds.leadingZeroBitCount
        let mantissa = Int(microseconds >> (exponent - subBucketBits)) & ((1 << subBucketBits) - 1)
        return (exponent - subBucketBits + 1) << subBucketBits + mantissa
    }

    /// Returns the middle of a bucket, in microseconds.
    private static func middle(of bucket: Int) -> Double {
        let size = 1 << subBucketBits
        guard bucket >= size else { return Double(bucket) + 0.5 }
        let width = Double(UInt64(1) << (bucket / size - 1))
        return (Double(size + bucket % size) + 0.5) * width
    }
}
