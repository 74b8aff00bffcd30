/// How requests are to be carried through.
struct ExchangeOptions: Sendable {
    /// A call or a source, for the plans below.
    struct Object: Sendable {
        var isCall: Bool
        /// Its number among the sources of its request; 0 for a call.
        var number: Int
        /// How often it was polled so far.
        var polls: Int
    }

    /// What is to happen to an object between two polls.
    enum Intervention: Sendable {
        case goOn
        /// Cancel, poll a few times more, close.
        case cancel
        /// Cancel, close without another poll.
        case cancelAndClose
        /// Close without another poll.
        case close
    }

    /// How many threads poll.
    var threads = 1
    /// Each poll of an object runs on another thread than the last.
    var movesBetweenThreads = false
    var frames = StrictFrameSink.Behaviour()
    var sources: StrictFrameSink.Behaviour = {
        var behaviour = StrictFrameSink.Behaviour()
        behaviour.room = 16
        return behaviour
    }()
    /// What answered PENDING is polled three times more before a wake is waited for.
    var pollsUnasked = false
    /// Sources are closed last first when all is over, instead of each at its end.
    var closesLate = false
    /// After so long a wait for a wake the object is polled all the same: what comes then was owed a wake.
    var patience: Duration?
    /// Asked before the first poll of an object and after each.
    var plan: (@Sendable (Object) -> Intervention)?
    /// Asked before a poll: whether another thread is to cancel the object, twice, while it runs.
    var cancelsDuringPoll: (@Sendable (Object) -> Bool)?

    /// Whether a call and its sources are polled at the same time, or one after the other, whatever the threads.
    var overlapsWithinCall = false
    /// With something received, and nothing but waiting for so long, the rest is cut off: an answer may be endless.
    var quiet: Duration? = .milliseconds(300)
    /// For everything; what is not over then is cancelled and closed.
    var time = Duration.seconds(1)
    /// Of all requests together, after which the rest is cut off.
    var frameLimit = 4_000
    var byteLimit = 64 << 20
    var sourceLimit = 256
    /// How long a poll may go on after its object was cancelled.
    var grace = Duration.seconds(3)
    /// How long a wake is waited for after an object that had answered PENDING was cancelled, unless all is cut off first.
    var cancelPatience = Duration.milliseconds(200)
}
