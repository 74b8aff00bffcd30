extension Server {
    /// How a service serves. Every option of the Go package is here under its name there, with its default.
    ///
    /// Durations are measured from where the comment says; `nil` is for ever.
    public struct Configuration: Sendable {
        // MARK: Error mass

        /// How many failures in a row make a service withdraw its name for a while. Default 10; 0 is never.
        ///
        /// A failure is: accepting a connection failed, the source function threw, a source ended in an error. What is
        /// the client's doing is none: it went away, did not fetch a source, or sent what ``ServingError`` blames it for.
        public var maxErrorMass = 10
        /// How long the name is withdrawn then. Default 30 s; doubled each time it fails again at once.
        public var errorPause = Duration.seconds(30)
        /// How long it is withdrawn at most. Default 5 min.
        public var maxErrorPause = Duration.seconds(300)

        // MARK: Timeouts

        /// How long an announced source waits for the client to fetch it. Default 30 s. Begins anew each time the client
        /// fetches one of the same request, so that it may take a long list in order.
        public var chanAcceptTimeout = Duration.seconds(30)
        /// How long a request may be listed, and after that each of its sources be read, in all. Default `nil`.
        public var servingTimeout: Duration?
        /// How long the source function may take for its first source and between two. Default `nil`.
        public var sourcingTimeout: Duration?
        /// How long the request's body may take to come. Default `nil`.
        public var masterReadTimeout: Duration?
        /// How long the client may take to make room for one announcement. Default `nil`.
        public var masterWriteTimeout: Duration?
        /// How long the client may take to make room for a batch of frames. Default `nil`.
        public var frameWriteTimeout: Duration?

        // MARK: Sending

        /// Whether frames of more than 12 bytes are compressed where that makes them smaller. Default `false`.
        public var compression = false
        /// At how many bytes a batch of frames is sent. Default 65,536.
        public var batchSize = 65_536

        // MARK: Bounds

        /// Maximum requests whose sources are being listed; further requests queue. Default 4,096.
        public var maxConcurrentRequests = 4096
        /// Maximum open requests, those that are only streaming included; further requests are refused as busy, so that their
        /// clients try another host. Default `nil`: no limit.
        public var maxOpenRequests: Int?
        /// How many sources of a request may be announced and not fetched; further ones wait. Default 256.
        public var maxUnacceptedSources = 256

        // MARK: End

        /// How long ``Server/run()`` and ``Server/listenAndServe(_:_:)`` wait for open requests before they cancel them. Default
        /// 30 s.
        public var drainTimeout = Duration.seconds(30)

        /// What the client is told about an error of a source function or a source; `nil` is its description.
        package var errorText: (@Sendable (any Error) -> String)?

        // MARK: Where code runs

        /// Where source functions and frame producers run. Default `nil`: Swift's own pool.
        public var executor: (any TaskExecutor)?

        // MARK: Callbacks, from any thread, which may be one of the network's: they must not block

        /// A request, or the service itself, failed.
        public var onError: @Sendable (ChanservError) -> Void = { _ in }
        /// A source failed.
        public var onChanError: @Sendable (ChanservError) -> Void = { _ in }
        /// The limit was reached (or a probe failed) and the name is withdrawn: how many failures in a row, the last.
        public var onMaxErrorMass: @Sendable (_ mass: Int, _ last: ChanservError) -> Void = { _, _ in }

        /// All defaults.
        public init() {}
    }
}
