/// An address at which a node listens or which it joins.
public enum NodeAddress: Sendable, Hashable {
    /// A DNS name or an IP address without brackets, and a TCP port.
    case tcp(host: String, port: Int)
    /// The path of a Unix socket, at most 107 bytes.
    case unix(path: String)
}

extension NodeAddress: CustomStringConvertible {
    /// `host:port`, `[address]:port` or `unix:/path`.
    public var description: String {
        switch self {
        case .tcp(let host, let port): HostPort(host: host, port: port).description
        case .unix(let path): "unix:\(path)"
        }
    }
}
