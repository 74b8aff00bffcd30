extension Server {
    /// The options of a service. Every option of the Go package is here with its default, under its Go
    /// name unless its comment says otherwise.
    ///
    /// A timeout of `nil` means no limit.
    public struct Configuration: Sendable {
        // MARK: Error mass

        /// Number of failures in a row after which the service withdraws its name for a pause. Default 10; 0 disables
        /// this.
        ///
        /// Failures are: the name cannot be bound, the source function throws or exceeds ``sourcingTimeout`` or
        /// ``servingTimeout``, a source ends with an error. These do not count: the client went away, it did not accept
        /// a source, or it caused an error whose ``ServingError/countsAsFailure`` is `false`.
        public var maxErrorMass = 10
        /// How long the name is withdrawn. Default 30 s. The pause doubles each time the service fails again directly
        /// afterwards.
        public var errorPause = Duration.seconds(30)
        /// Maximum time for which the name is withdrawn. Default 5 min.
        public var maxErrorPause = Duration.seconds(300)

        // MARK: Timeouts

        /// Maximum time until the client accepts a source that was announced or pushed. Default 30 s. It restarts each
        /// time the client accepts another source of the same request, so that the client may accept a long list in
        /// order.
        public var chanAcceptTimeout = Duration.seconds(30)
        /// Maximum time for the listing of a request, and for each of its sources from its acceptance by the client to
        /// its end. Default `nil`.
        public var servingTimeout: Duration?
        /// Maximum time of the source function until its first source, and between two sources. Default `nil`.
        public var sourcingTimeout: Duration?
        /// Maximum time until the body of a request has arrived. Default `nil`.
        public var masterReadTimeout: Duration?
        /// Maximum time until the client has made room for one announcement. Default `nil`.
        public var masterWriteTimeout: Duration?
        /// Maximum time until the client has made room for a batch of frames. Default `nil`.
        public var frameWriteTimeout: Duration?

        // MARK: Sending

        /// Whether frames of more than 12 bytes are compressed if that makes them smaller. Default `false`.
        public var compression = false
        /// Size in bytes at which a batch of frames is sent. Default 65,536.
        public var batchSize = 65_536

        // MARK: Bounds

        /// Maximum requests that are still listing sources; further requests queue. Default 4,096. The Go package calls
        /// it `MaxConcurrentRequests`.
        public var maxListingRequests = 4096
        /// Maximum open requests, including those that only send frames. Further requests are refused as busy, so that
        /// their clients try another host. Default `nil`: no limit.
        public var maxOpenRequests: Int?
        /// Maximum sources of a request that the client has not accepted; further sources wait. Default 256.
        public var maxUnacceptedSources = 256

        // MARK: Access

        /// Decides which clients may begin requests. Default `nil`: all.
        package var admission: (any RequestAdmission)?

        // MARK: End

        /// Maximum time that ``Server/run()`` and ``Server/listenAndServe(_:_:)`` wait for open requests before they
        /// cancel them. Default 30 s.
        public var drainTimeout = Duration.seconds(30)

        /// Returns the message that the client receives for an error of a source function or a source. `nil` uses the
        /// error's description.
        package var errorText: (@Sendable (any Error) -> String)?

        // MARK: Where code runs

        /// The executor of source functions and frame producers. Default `nil`: Swift's default pool.
        public var executor: (any TaskExecutor)?

        // MARK: Callbacks. Any thread may call them, also a network thread: they must not block

        /// Called when a request, or the service itself, failed.
        public var onError: @Sendable (ChanservError) -> Void = { _ in }
        /// Called when a source failed.
        public var onChanError: @Sendable (ChanservError) -> Void = { _ in }
        /// Called when the name is withdrawn because the limit was reached or a probe failed. Receives the number of
        /// failures in a row and the last failure.
        public var onMaxErrorMass: @Sendable (_ mass: Int, _ last: ChanservError) -> Void = { _, _ in }

        /// Creates a configuration with all defaults.
        public init() {}
    }
}
