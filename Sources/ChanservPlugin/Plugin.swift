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
/// The functions of a plugin run as tasks on Swift's pool, so they must not block. A task that is suspended uses no
/// thread. When the client is gone, or the host destroys the instance, the task is cancelled: the functions of the SDK
/// throw `CancellationError`, and so does `Task.sleep`. A task that ignores the cancellation runs on without effect,
/// even after the instance was destroyed; this is safe because the library is never unloaded.
///
/// A library exports exactly one plugin type and links this library statically.
public protocol Plugin: Sendable {
    /// The name of the plugin, short, for logs.
    static var name: String { get }
    /// The version of the plugin, in any format.
    static var version: String { get }
    /// Whether the host may poll the plugin on a network event loop (`CHANSERV_PLUGIN_INLINE`). Default `false`.
    ///
    /// The plugin's functions run as tasks on Swift's pool in either case. Only two things run on the event loop. The
    /// first is the SDK's code that passes written frames to the host, which returns within microseconds if the frames
    /// are small or lent. The second is the function passed to ``FrameWriter/write(upTo:_:)``. The setting saves two
    /// thread switches for each request. A host with ABI version 1.0 refuses to load a plugin that sets it.
    static var isInline: Bool { get }

    /// Creates an instance. Several instances may exist at the same time. Validate the whole configuration here. The
    /// function may block, but the start or the reload of the host waits for it.
    ///
    /// - Throws: the error in the configuration. The host then does not start, or rejects the reload and keeps the old
    ///   generation.
    init(configuration: borrowing Configuration, log: Log) throws

    /// Serves a request: adds its sources and returns after the last one. The sources go on after that.
    ///
    /// - Throws: the failure of the request. Sources that were added go on.
    func serve(_ request: Request, to sources: SourceWriter) async throws

    /// Stops the instance: the host destroys it, and all its requests have ended. Must end everything that must not
    /// outlive the instance, such as threads and processes. May block. Tasks that ignore their cancellation may still
    /// run. Does nothing by default.
    func stop()
}

extension Plugin {
    public static var isInline: Bool { false }

    public func stop() {}
}
