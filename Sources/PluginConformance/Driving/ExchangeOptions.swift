/// How requests are sent and polled.
struct ExchangeOptions: Sendable {
    /// A call or a source, for the plans below.
    struct Object: Sendable {
        var isCall: Bool
        /// The number of the source within its request; 0 for a call.
        var number: Int
        /// Number of polls so far.
        var polls: Int
    }

    /// An action on an object between two polls.
    enum Intervention: Sendable {
        case goOn
        /// Cancel, poll a few more times, close.
        case cancel
        /// Cancel and close without another poll.
        case cancelAndClose
        /// Close without another poll.
        case close
    }

    /// Number of polling threads.
    var threads = 1
    /// Whether each poll of an object runs on another thread than the last.
    var movesBetweenThreads = false
    var frames = StrictFrameSink.Behaviour()
    var sources: StrictFrameSink.Behaviour = {
        var behaviour = StrictFrameSink.Behaviour()
        behaviour.room = 16
        return behaviour
    }()
    /// Whether an object that returned PENDING is polled three times without a wake.
    var pollsUnasked = false
    /// Whether sources are closed at the very end, the last one first, instead of at their own ends.
    var closesLate = false
    /// Time without a wake after which an object is polled anyway. If that poll brings something, a wake was missing.
    var wakeTimeout: Duration?
    /// Called before the first poll of an object and after each one.
    var plan: (@Sendable (Object) -> Intervention)?
    /// Called before a poll: whether another thread cancels the object twice during it.
    var cancelsDuringPoll: (@Sendable (Object) -> Bool)?

    /// Whether a call and its sources are polled at the same time. Otherwise one after the other, with any number of
    /// threads.
    var overlapsWithinCall = false
    /// Time without events after which an answer that has brought frames is cut off, because it may be endless.
    var quiet: Duration? = .milliseconds(300)
    /// Total time. Objects that are open after it are cancelled and closed.
    var time = Duration.seconds(1)
    /// Limit of all requests together, after which the rest is cut off.
    var frameLimit = 4_000
    var byteLimit = 64 << 20
    var sourceLimit = 256
    /// Time for a poll to return after its object was cancelled.
    var grace = Duration.seconds(3)
    /// Time for a wake after the cancellation of an object that returned PENDING, unless everything is cut off first.
    var cancelPatience = Duration.milliseconds(200)
}
