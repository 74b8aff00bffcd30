/// What went wrong on the mesh.
public struct AstraNetError: Error, Hashable, Sendable {
    /// The kind of failure; more may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String

        /// The service is bound already.
        public static let serviceInUse = Code(description: "service in use")
        /// No host offers the service.
        public static let noOffer = Code(description: "no offer")
        /// A host was dialled and said that nobody listens there.
        public static let refused = Code(description: "refused")
        /// The peer failed the stream; the message is the peer's.
        public static let failedByPeer = Code(description: "failed by peer")
        /// The peer said FIN1 or closed: it takes no more bytes.
        public static let closedByPeer = Code(description: "closed by peer")
        /// The link the stream ran over is gone.
        public static let linkLost = Code(description: "link lost")
        /// A deadline passed.
        public static let deadlineExceeded = Code(description: "deadline exceeded")
        /// This end has closed the stream, the listener or the node.
        public static let closed = Code(description: "closed")
        /// The peer broke a rule of the protocol.
        public static let protocolViolation = Code(description: "protocol violation")
        /// A limit of this node was reached.
        public static let limitReached = Code(description: "limit reached")
        /// Somebody else listens at the address.
        public static let addressInUse = Code(description: "address in use")
        /// The address is none of this machine's.
        public static let addressNotAvailable = Code(description: "address not available")
        /// An address could not be listened on, for any other reason, or connected to.
        public static let unreachable = Code(description: "unreachable")
    }

    /// The kind of failure.
    public var code: Code
    /// What happened, for a person.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}

extension AstraNetError: CustomStringConvertible {
    public var description: String { message.isEmpty ? code.description : "\(code): \(message)" }
}
