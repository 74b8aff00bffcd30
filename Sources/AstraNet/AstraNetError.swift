/// An error of the mesh.
public struct AstraNetError: Error, Hashable, Sendable {
    /// The kind of an error. Later versions may add more.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String

        /// The service is already bound.
        public static let serviceInUse = Code(description: "service in use")
        /// No host offers the service.
        public static let noOffer = Code(description: "no offer")
        /// The dialled host refused the dial, for example because it has no listener for the port.
        public static let refused = Code(description: "refused")
        /// The peer failed the stream. The message is the peer's.
        public static let failedByPeer = Code(description: "failed by peer")
        /// The peer sent FIN1 or closed the stream: it reads no more bytes.
        public static let closedByPeer = Code(description: "closed by peer")
        /// The link of the stream is lost.
        public static let linkLost = Code(description: "link lost")
        /// The deadline has passed.
        public static let deadlineExceeded = Code(description: "deadline exceeded")
        /// This node has closed the stream, the listener or the node itself.
        public static let closed = Code(description: "closed")
        /// The peer violated the protocol.
        public static let protocolViolation = Code(description: "protocol violation")
        /// A limit of this node is reached.
        public static let limitReached = Code(description: "limit reached")
        /// Another process or socket listens at the address already.
        public static let addressInUse = Code(description: "address in use")
        /// This machine does not have the address.
        public static let addressNotAvailable = Code(description: "address not available")
        /// The process may not listen at the address, for example at a port below 1024.
        public static let permissionDenied = Code(description: "permission denied")
        /// Nothing listens at the address that was joined. It may be a node that is starting.
        public static let connectionRefused = Code(description: "connection refused")
        /// The connection could not be secured, for example because the certificate of the peer is not valid.
        public static let insecure = Code(description: "insecure")
        /// The node could not listen at the address for another reason, or could not connect to it.
        public static let unreachable = Code(description: "unreachable")
    }

    /// The kind of failure.
    public var code: Code
    /// A description of the error for people.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}

extension AstraNetError: CustomStringConvertible {
    public var description: String { message.isEmpty ? code.description : "\(code): \(message)" }
}
