public import NIOCore

/// A source as a server offers it: a header, and a stream of frames.
public struct Source: Sendable {
    /// What the client gets with the announcement, at most 100 MiB; may be empty.
    public let header: ByteBuffer
    /// Where the frames come from.
    public let producer: any FrameProducer

    public init(header: some Frame, producer: some FrameProducer) {
        var buffer = ByteBuffer()
        header.write(into: &buffer)
        self.header = buffer
        self.producer = producer
    }
}

/// The sources of one request, in order; it may throw to fail the request after some were announced.
public typealias Sources = any AsyncSequence<Source, any Error> & Sendable

/// Answers a request with sources. It may throw instead: the request fails at the client with the error's description.
public typealias SourceFunc = @Sendable (_ request: Request) async throws -> Sources

/// What a client posted.
public struct Request: Sendable {
    /// The body, at most 100 MiB.
    public var body: ByteBuffer
    /// The virtual address it was posted to.
    public var vAddr: String
    /// The client's tags. Go clients send none.
    public var tags: RequestTags
    /// What the client and the connection say about it.
    public var context: RequestContext
    private var origin: Origin

    /// Printing addresses takes longer than serving a small request, and few source functions look at them.
    private enum Origin {
        case connection(any Connection)
        case known(SourceMeta)
    }

    /// Where it came from.
    public var meta: SourceMeta {
        get {
            switch origin {
            case .connection(let connection): SourceMeta(connection.addresses)
            case .known(let meta): meta
            }
        }
        set { origin = .known(newValue) }
    }

    /// The client in the network's notation, e.g. `EjRWeBI0VngA:16777217`.
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

/// Where a request or a source came from: the fields of the Go package's `MetaData`.
public struct SourceMeta: Sendable, Hashable {
    /// The other end in the network's notation, e.g. `EjRWeBI0VngA:16777217`.
    public var remoteAddress: String
    /// The other end's network name.
    public var remoteNetwork: String
    /// This end.
    public var localAddress: String
    /// This end's network name.
    public var localNetwork: String

    public init(_ addresses: ConnectionAddresses) {
        remoteAddress = addresses.remote
        remoteNetwork = addresses.network
        localAddress = addresses.local
        localNetwork = addresses.network
    }
}

/// A named property of a request.
public enum RequestTag: Sendable, Hashable {
    /// Free text about the request.
    case meta
    /// Chooses among several offers of a name: the same bucket goes to the same one.
    case bucket
}

/// The properties of one request.
public typealias RequestTags = [RequestTag: String]
