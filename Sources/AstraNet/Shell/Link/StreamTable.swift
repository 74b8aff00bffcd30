internal import DequeModule

/// The streams of a link by their addresses, and the streams for which a timeout runs.
struct StreamTable {
    /// The name of a stream in ops: its four values without this node's own host id (`docs/protocol.md` §4).
    struct Key: Hashable {
        var remote: Address
        var localPort: UInt32

        init(remote: Address, localPort: UInt32) {
            self.remote = remote
            self.localPort = localPort
        }
    }

    private var streams = StreamSlots<Stream>()
    /// The number of streams with each host.
    private var countByHost = HostCounts()
    /// Accepted dials without ACK, oldest first. Streams that have opened since are skipped.
    private var halfOpen = Deque<(key: Key, since: UInt64)>()
    private(set) var halfOpenCount = 0
    private var halfOpenKeys: Set<Key> = []
    /// Closed streams with unsent bytes: the start of the timeout, and the unsent bytes at that time. Also failed
    /// pushed streams that wait for the client's answer and have no bytes left.
    private var lingering: [Key: (since: UInt64, queued: Int)] = [:]

    /// Whether a closed stream has bytes to send.
    var hasLingering: Bool { lingering.values.contains { $0.queued > 0 } }

    var count: Int { streams.count }

    subscript(key: Key) -> Stream? { streams[key] }

    /// - Parameter halfOpenSince: the time of the DIAL if the stream waits for its ACK.
    mutating func insert(_ stream: Stream, halfOpenSince: UInt64?) {
        let key = stream.key
        if streams.insert(stream) == nil { countByHost.add(key.remote.host) }
        if let halfOpenSince {
            halfOpen.append((key, halfOpenSince))
            halfOpenKeys.insert(key)
            halfOpenCount += 1
        }
    }

    /// Records that the ACK of the stream has arrived.
    mutating func opened(_ stream: Stream) {
        if halfOpenKeys.remove(stream.key) != nil { halfOpenCount -= 1 }
    }

    /// Starts the timeout of a closed stream whose bytes wait for credit, or of a failed pushed stream that waits for
    /// the client's answer.
    mutating func lingers(_ stream: Stream, since now: UInt64) {
        // Only once: otherwise credit in tiny amounts would restart the timeout each time.
        guard lingering[stream.key] == nil else { return }
        lingering[stream.key] = (now, stream.withStorage { $0.state.queued })
    }

    /// - Returns: whether the stream was in the table.
    @discardableResult
    mutating func remove(_ stream: Stream) -> Bool {
        let key = stream.key
        guard streams[key] === stream else { return false }
        streams.remove(key)
        countByHost.remove(key.remote.host)
        // A look-up hashes the key even in an empty dictionary, and both collections are usually empty.
        if !lingering.isEmpty { lingering[key] = nil }
        if !halfOpenKeys.isEmpty, halfOpenKeys.remove(key) != nil { halfOpenCount -= 1 }
        return true
    }

    mutating func removeAll() -> [Stream] {
        defer { self = StreamTable() }
        return Array(streams.all)
    }

    /// Returns the streams with `host`.
    func all(of host: HostID) -> [Stream] {
        // Without this check, a peer that sends many RSTs would make this node scan all streams each time.
        guard countByHost.contains(host) else { return [] }
        return streams.all.filter { $0.remoteAddress.host == host }
    }

    /// Returns the streams whose timeout has passed, each with the error that ends it.
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
            // Less credit than a window is not counted as progress. Otherwise a few bytes a minute would hold the rest
            // for ever.
            if waited.queued - queued >= Int(SendWindow.initialSize) {
                lingering[key] = (now, queued)
            } else if now - waited.since >= limits.lingerNanoseconds {
                overdue.append(
                    (stream, AstraNetError(.deadlineExceeded, "the peer did not read the rest of the stream in time")))
            }
        }
        return overdue
    }
}

/// The number of streams with each host. Usually all streams are with the first host, the peer, which needs no
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

    /// Counts one stream with `host` less.
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
