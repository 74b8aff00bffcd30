internal import DequeModule

/// The streams of one link by the addresses in their ops, with the timeouts of half-open and lingering streams.
package struct StreamTable {
    /// The key of a stream: the four values of an op without this node's host id (`docs/protocol.md` §1).
    package struct Key: Hashable {
        var remote: Address
        var localPort: UInt32

        package init(remote: Address, localPort: UInt32) {
            self.remote = remote
            self.localPort = localPort
        }
    }

    private var streams = StreamSlots<MeshStream>()
    /// Number of streams with each host.
    private var countByHost = HostCounts()
    /// Accepted dials that wait for their ACK, oldest first. Entries whose key is not in ``halfOpenKeys`` are skipped.
    private var halfOpen = Deque<(key: Key, since: UInt64)>()
    private(set) var halfOpenCount = 0
    private var halfOpenKeys: Set<Key> = []
    /// Closed streams that have unsent bytes, and failed pushed sources that wait for the client's answer (0 unsent
    /// bytes).
    ///
    /// Each entry has the time of the last progress and the number of unsent bytes at that time.
    private var lingering: [Key: (since: UInt64, queued: Int)] = [:]

    /// Whether a closed stream still has bytes to send.
    var hasLingering: Bool { lingering.values.contains { $0.queued > 0 } }

    var count: Int { streams.count }

    subscript(key: Key) -> MeshStream? { streams[key] }

    /// Adds a stream.
    ///
    /// - Parameter halfOpenSince: the current time if the stream waits for its ACK, in nanoseconds; otherwise `nil`.
    mutating func insert(_ stream: MeshStream, halfOpenSince: UInt64?) {
        let key = stream.key
        if streams.insert(stream) == nil { countByHost.add(key.remote.host) }
        if let halfOpenSince {
            halfOpen.append((key, halfOpenSince))
            halfOpenKeys.insert(key)
            halfOpenCount += 1
        }
    }

    /// Stops the handshake timeout of a stream because its ACK arrived.
    mutating func opened(_ stream: MeshStream) {
        if halfOpenKeys.remove(stream.key) != nil { halfOpenCount -= 1 }
    }

    /// Starts the timeout of a closed stream that has bytes waiting for credit, or of a failed pushed source that waits
    /// for the client's answer.
    mutating func lingers(_ stream: MeshStream, since now: UInt64) {
        // A running timeout is not restarted. Otherwise a peer could extend it for ever with small amounts of credit.
        guard lingering[stream.key] == nil else { return }
        lingering[stream.key] = (now, stream.withStorage { $0.state.queued })
    }

    /// Removes a stream.
    ///
    /// - Returns: whether the table had this stream.
    @discardableResult
    mutating func remove(_ stream: MeshStream) -> Bool {
        let key = stream.key
        guard streams[key] === stream else { return false }
        streams.remove(key)
        countByHost.remove(key.remote.host)
        // A look-up hashes the key even if the collection is empty, which is the usual case.
        if !lingering.isEmpty { lingering[key] = nil }
        if !halfOpenKeys.isEmpty, halfOpenKeys.remove(key) != nil { halfOpenCount -= 1 }
        return true
    }

    mutating func removeAll() -> [MeshStream] {
        defer { self = StreamTable() }
        return Array(streams.all)
    }

    /// Returns the streams with `host`.
    func all(of host: HostID) -> [MeshStream] {
        // A peer that sends RSTs for many unknown hosts must not cause a scan of all streams each time.
        guard countByHost.contains(host) else { return [] }
        return streams.all.filter { $0.remoteAddress.host == host }
    }

    /// Returns the streams that have timed out, each with its error. The caller removes them.
    mutating func takeOverdue(now: UInt64, limits: StreamLimits) -> [(MeshStream, AstraNetError)] {
        var overdue: [(MeshStream, AstraNetError)] = []
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
            // Only 64 KiB count as progress. Otherwise a peer that grants a few bytes a minute could keep the rest for
            // ever.
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

    /// Subtracts one stream with `host`.
    mutating func remove(_ host: HostID) {
        if let first, first.host == host {
            self.first = (host, first.count - 1)
        } else if let count = others[host] {
            others[host] = count > 1 ? count - 1 : nil
        }
    }
}

extension MeshStream: AddressedByOps {
    package var key: StreamTable.Key { StreamTable.Key(remote: remoteAddress, localPort: localPort) }
}
