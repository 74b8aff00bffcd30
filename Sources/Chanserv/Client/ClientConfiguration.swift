extension Client {
    /// How a client asks. Every option of the Go package is here under its name there, with its default.
    public struct Configuration: Sendable {
        /// How long dialling a name may take, a service's or a source's. Default 10 s.
        public var dialTimeout = Duration.seconds(10)
        /// Maximum sources that a server may push, or that are dialled, ahead of the one that is taken. Default 128.
        public var sourceBuffer = 128
        /// Whether servers may push sources, which saves a round trip. Default `true`; without it they are fetched by name, as
        /// from Go servers.
        public var acceptsPushedSources = true
        /// How many frames ``ReceivedFrames/Iterator/nextBatch()`` hands over at most. Default 1,024.
        ///
        /// What comes before it is asked for waits undecoded in the stream's window, 64 KiB with a Go server.
        public var frameBuffer = 1024
        /// How long to wait for each announcement of a source (or the end of them). Default `nil`: for ever.
        public var masterReadTimeout: Duration?
        /// How long the server may take to take the request. Default `nil`: for ever.
        public var masterWriteTimeout: Duration?
        /// How long to wait for each frame (or the end of them) once it is asked for. Default `nil`: for ever.
        public var frameReadTimeout: Duration?
        /// Every failure that a sequence throws; not what this side cancelled. Called from any thread, which may be one of the
        /// network's: it must not block.
        public var onError: @Sendable (ChanservError) -> Void = { _ in }

        /// All defaults.
        public init() {}
    }
}
