public import NIOCore

/// A source that a server offers: a header and a stream of frames.
public struct Source: Sendable {
    /// The header, which the client receives before the frames. At most 100 MiB; may be empty.
    public let header: ByteBuffer
    /// The producer of the frames.
    public let producer: any FrameProducer

    public init(header: some Frame, producer: some FrameProducer) {
        var buffer = ByteBuffer()
        header.write(into: &buffer)
        self.header = buffer
        self.producer = producer
    }
}

/// The sources of one request, in order. The sequence may throw: then the request fails, and sources announced before
/// stay valid.
public typealias Sources = any AsyncSequence<Source, any Error> & Sendable

/// Answers a request with sources. If it throws, the request fails at the client with the error's description.
public typealias SourceFunc = @Sendable (_ request: Request) async throws -> Sources

/// A request that a client posted.
public struct Request: Sendable {
    /// The body, at most 100 MiB.
    public var body: ByteBuffer
    /// The virtual address to which the request was posted.
    public var vAddr: String
    /// The tags of the client. Go clients send none.
    public var tags: RequestTags
    /// The properties of the request that the client and the connection state.
    public var context: RequestContext
    private var origin: Origin

    /// The origin of the request. Addresses are formatted on demand: formatting takes longer than serving a small
    /// request, and few source functions read them.
    private enum Origin {
        case connection(any Connection)
        case known(SourceMeta)
    }

    /// The addresses of both ends of the request's connection.
    public var meta: SourceMeta {
        get {
            switch origin {
            case .connection(let connection): SourceMeta(connection.addresses)
            case .known(let meta): meta
            }
        }
        set { origin = .known(newValue) }
    }

    /// The address of the client in the network's notation, e.g. `EjRWeBI0VngA:16777217`.
    public var remoteAddress: String {
        switch origin {
        case .connection(let connection): connection.peerDescription
        case .known(let meta): meta.remoteAddress
        }
    }

    public init(
        body: ByteBuffer, vAddr: String, meta: SourceMeta, tags: RequestTags = [:],
        context: RequestContext = RequestContext()
    ) {
        self.body = body
        self.vAddr = vAddr
        origin = .known(meta)
        self.tags = tags
        self.context = context
    }

    init(body: ByteBuffer, vAddr: String, from connection: any Connection, _ context: RequestContext) {
        self.body = body
        self.vAddr = vAddr
        origin = .connection(connection)
        tags = RequestTags(context)
        self.context = context
    }
}

/// The addresses of a request or a source: the fields of the Go package's `MetaData`.
public struct SourceMeta: Sendable, Hashable {
    /// The address of the peer in the network's notation, e.g. `EjRWeBI0VngA:16777217`.
    public var remoteAddress: String
    /// The network name of the peer.
    public var remoteNetwork: String
    /// The local address.
    public var localAddress: String
    /// The local network name.
    public var localNetwork: String

    public init(_ addresses: ConnectionAddresses) {
        remoteAddress = addresses.remote
        remoteNetwork = addresses.network
        localAddress = addresses.local
        localNetwork = addresses.network
    }
}

/// The name of a request property.
public enum RequestTag: Sendable, Hashable {
    /// Free text about the request.
    case meta
    /// Chooses among several offers of a name. The same bucket selects the same offer.
    case bucket
}

/// The tags of one request.
public typealias RequestTags = [RequestTag: String]

extension RequestTags {
    init(_ context: RequestContext) {
        self.init()
        self[.meta] = context.meta
        self[.bucket] = context.bucket
    }
}
