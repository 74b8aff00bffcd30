extension Client {
    /// The options of a client. Every option of the Go package is here under its Go name, with its default.
    public struct Configuration: Sendable {
        /// Maximum time to dial the name of a service or of a source. Default 10 s.
        public var dialTimeout = Duration.seconds(10)
        /// Maximum sources that a server may push, or that the client dials, before the consumer takes them. Default
        /// 128.
        public var sourceBuffer = 128
        /// Whether servers may push sources, which saves a round trip. Default `true`. If `false`, the client dials
        /// each source by its name, as with Go servers.
        public var acceptsPushedSources = true
        /// Maximum frames that ``ReceivedFrames/Iterator/nextBatch()`` returns. Default 1,024.
        ///
        /// Bytes that arrive earlier stay undecoded in the stream's window, 64 KiB with a Go server.
        public var frameBuffer = 1024
        /// Maximum time to wait for each announcement of a source or for the end of the sources. Default `nil`: no
        /// limit.
        public var masterReadTimeout: Duration?
        /// Maximum time until the server has accepted the bytes of the request. Default `nil`: no limit.
        public var masterWriteTimeout: Duration?
        /// Maximum time to wait for each frame, or for the end of the frames, after the consumer asked for it. Default
        /// `nil`: no limit.
        public var frameReadTimeout: Duration?
        /// The number of times that requests may be repeated because a host does not answer; `nil` (the default) for
        /// none. All requests of the client share it.
        package var repeats: RepeatBudget?
        /// Receives every failure that a sequence throws, except cancellations by the caller. Any thread may call it,
        /// also an event loop: it must not block.
        public var onError: @Sendable (ChanservError) -> Void = { _ in }

        /// Creates a configuration with all defaults.
        public init() {}
    }
}
