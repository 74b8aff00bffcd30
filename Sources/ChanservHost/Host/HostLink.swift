internal import AstraNet

/// A link of a host to another node: a client, a host or a router. Its encoding is sent over the control socket
/// (`docs/control.md`).
public struct HostLink: Codable, Sendable, Hashable {
    public enum Direction: String, Codable, Sendable, Hashable {
        /// The peer connected to this host.
        case accepted
        /// This host connected to the peer.
        case dialled
    }

    /// The identity of the peer on the mesh.
    public var peer: String
    /// The configured name of the peer; `nil` if it has none.
    public var name: String?
    /// The `ip:port` of the peer; empty if it has no such address.
    public var address: String
    /// The verified name of the peer; `nil` if it has proved none.
    public var identity: String?
    public var direction: Direction
    /// The time since the connection began.
    public var ageMilliseconds: Int
    /// Streams of requests and sources.
    public var streams: Int
    /// Bytes that the peer makes the host buffer: received and not read yet, or to be forwarded.
    public var bufferedBytes: Int
    /// The shortest measured round trip; `nil` before the first measurement.
    public var roundTripMilliseconds: Double?

    enum CodingKeys: String, CodingKey {
        case peer, name, address, identity, direction
        case ageMilliseconds = "age_ms"
        case streams
        case bufferedBytes = "buffered_bytes"
        case roundTripMilliseconds = "round_trip_ms"
    }
}

extension HostLink {
    init(_ link: NodeLink) {
        self.init(
            peer: "\(link.peer)", name: link.name, address: link.address,
            identity: link.identity.isEmpty ? nil : link.identity, direction: link.isDialled ? .dialled : .accepted,
            ageMilliseconds: link.age.wholeMilliseconds,
            streams: link.streams, bufferedBytes: link.bufferedBytes,
            // Rounded to microseconds; smaller differences are noise.
            roundTripMilliseconds: link.roundTrip.map { ($0 / .microseconds(1)).rounded() / 1_000 })
    }
}
