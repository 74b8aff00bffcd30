/// A plugin, written in Swift.
///
/// Conform a type, and export it:
///
/// ```swift
/// import CChanservPlugin
/// import ChanservPlugin
///
/// struct Hello: Plugin {
///     static let name = "hello"
///     static let version = "1.0.0"
///
///     struct Options: Codable {
///         var greeting = "Hello"
///     }
///     let options: Options
///
///     init(configuration: borrowing Configuration, log: Log) throws {
///         options = try configuration.decode(over: Options())
///     }
///
///     func serve(_ request: Request, to sources: SourceWriter) async throws {
///         try await sources.add(Source(header: "greeting") { frames in
///             try await frames.write("\(options.greeting), \(request.text)!")
///         })
///     }
/// }
///
/// @c @implementation
/// public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? { Hello.descriptor }
/// ```
///
/// The functions of a plugin run as tasks on Swift's pool, so they must not block; one that waits costs no thread. When
/// the client is gone, or the host wants its plugin back, the task is cancelled: what it awaits of the SDK throws
/// `CancellationError`, and so does `Task.sleep`. A task that ignores it goes on in vain, but harms nobody, even after
/// the host has let go of the instance: the library is never unloaded.
///
/// A library has one type that is exported, and links this one statically.
public protocol Plugin: Sendable {
    /// Short, for logs.
    static var name: String { get }
    /// Free form.
    static var version: String { get }
    /// Whether the host may poll the plugin on a network event loop (`CHANSERV_PLUGIN_INLINE`). `false` by default.
    ///
    /// Your functions run as tasks on Swift's pool in any case. What runs on the loop is the SDK's hand-over of the frames
    /// that they wrote, which returns within microseconds if the frames are small or lent, and the functions that
    /// ``FrameWriter/write(upTo:_:)`` was given. It saves the host two changes of threads for a request. A host of
    /// version 1.0 of the ABI refuses to load a plugin with it.
    static var isInline: Bool { get }

    /// Makes an instance; there may be several at once. Check the whole configuration here. May block, but a start or a
    /// reload of the host waits for it.
    ///
    /// - Throws: what is wrong with the configuration; it is refused, and at a reload everything goes on as it was.
    init(configuration: borrowing Configuration, log: Log) throws

    /// Answers a request: adds its sources, and returns when there are no more. They go on after that.
    ///
    /// - Throws: a failure of the request; sources that were added go on.
    func serve(_ request: Request, to sources: SourceWriter) async throws

    /// The host lets go of the instance: all its requests are over. Ends what must not outlive it, such as threads and
    /// processes; may block while it does. Tasks that ignore their cancellation may still run. Nothing by default.
    func stop()
}

extension Plugin {
    public static var isInline: Bool { false }

    public func stop() {}
}
