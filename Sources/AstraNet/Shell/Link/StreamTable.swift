internal import DequeModule

/// The streams of one link, by the addresses that name them in an op, and those that somebody is waiting for.
struct StreamTable {
    /// What names a stream: the four values of an op without our own host id (protocol section 4).
    struct Key: Hashable {
        var remote: Address
        var localPort: UInt32

        init(remote: Address, localPort: UInt32) {
            self.remote = remote
            self.localPort = localPort
        }
    }

    private var streams = StreamSlots<Stream>()
    /// How many streams there are with each host.
    private var countByHost = HostCounts()
    /// Accepted dials whose ACK has not come, oldest first; those that opened meanwhile are skipped.
    private var halfOpen = Deque<(key: Key, since: UInt64)>()
    private(set) var halfOpenCount = 0
    private var halfOpenKeys: Set<Key> = []
    /// Closed streams with unsent bytes, since when, and how many bytes were left then; and pushed streams that have failed but
    /// wait for the client's answer, with no bytes left.
    private var lingering: [Key: (since: UInt64, queued: Int)] = [:]

    /// Some closed stream still has bytes to send.
    var hasLingering: Bool { lingering.values.contains { $0.queued > 0 } }

    var count: Int { streams.count }

    subscript(key: Key) -> Stream? { streams[key] }

    /// - Parameter halfOpenSince: for a stream that waits for its ACK, the time.
    mutating func insert(_ stream: Stream, halfOpenSince: UInt64?) {
        let key = stream.key
        if streams.insert(stream) == nil { countByHost.add(key.remote.host) }
        if let halfOpenSince {
            halfOpen.append((key, halfOpenSince))
            halfOpenKeys.insert(key)
            halfOpenCount += 1
        }
    }

    /// The stream's ACK came.
    mutating func opened(_ stream: Stream) {
        if halfOpenKeys.remove(stream.key) != nil { halfOpenCount -= 1 }
    }

    /// The stream is closed but has bytes that wait for credit, or is a pushed one that failed and waits for the client's answer.
    mutating func lingers(_ stream: Stream, since now: UInt64) {
        // Once: credit that comes drop by drop would begin the time anew.
        guard lingering[stream.key] == nil else { return }
        lingering[stream.key] = (now, stream.withStorage { $0.state.queued })
    }

    /// - Returns: whether it was there.
    @discardableResult
    mutating func remove(_ stream: Stream) -> Bool {
        let key = stream.key
        guard streams[key] === stream else { return false }
        streams.remove(key)
        countByHost.remove(key.remote.host)
        // A look-up hashes the key even if nothing is there, and there seldom is.
        if !lingering.isEmpty { lingering[key] = nil }
        if !halfOpenKeys.isEmpty, halfOpenKeys.remove(key) != nil { halfOpenCount -= 1 }
        return true
    }

    mutating func removeAll() -> [Stream] {
        defer { self = StreamTable() }
        return Array(streams.all)
    }

    /// The streams with `host`.
    func all(of host: HostID) -> [Stream] {
        // Whoever resets hosts without end must not make this node look through all streams each time.
        guard countByHost.contains(host) else { return [] }
        return streams.all.filter { $0.remoteAddress.host == host }
    }

    /// Takes out the streams that were waited for too long, each with the error that ends it.
    mutating func takeOverdue(now: UInt64, limits: StreamLimits) -> [(Stream, AstraNetError)] {
        var overdue: [(Stream, AstraNetError)] = []
        while let first = halfOpen.first,
            now - first.since >= limits.openNanoseconds || !halfOpenKeys.contains(first.key)
        {
            halfOpen.removeFirst()
            guard halfOpenKeys.contains(first.key), let stream = streams[first.key] else { continue }
            overdue.append((stream, AstraNetError(.deadlineExceeded, "the dialer never confirmed the stream")))
        }
        for (key, waited) in lingering {
            guard let stream = streams[key] else {
                lingering[key] = nil
                continue
            }
            let queued = stream.withStorage { $0.state.queued }
            // Credit that comes drop by drop is no progress, or a few bytes a minute would hold the rest for ever.
            if waited.queued - queued >= Int(SendWindow.initialSize) {
                lingering[key] = (now, queued)
            } else if now - waited.since >= limits.lingerNanoseconds {
                overdue.append(
                    (stream, AstraNetError(.deadlineExceeded, "the rest of the stream was not read in time")))
            }
        }
        return overdue
    }
}

/// How many streams there are with each host. As a rule all are with the first one, which is the peer: that one needs no
/// dictionary.
private struct HostCounts {
    private var first: (host: HostID, count: Int)?
    private var others: [HostID: Int] = [:]

    func contains(_ host: HostID) -> Bool {
        if let first, first.host == host { return first.count > 0 }
        return others[host] != nil
    }

    mutating func add(_ host: HostID) {
        let first = first ?? (host, 0)
        if first.host == host {
            self.first = (host, first.count + 1)
        } else {
            others[host, default: 0] += 1
        }
    }

    /// One of the streams with `host` is gone.
    mutating func remove(_ host: HostID) {
        if let first, first.host == host {
            self.first = (host, first.count - 1)
        } else if let count = others[host] {
            others[host] = count > 1 ? count - 1 : nil
        }
    }
}

extension Stream: AddressedByOps {
    var key: StreamTable.Key { StreamTable.Key(remote: remoteAddress, localPort: localPort) }
}
