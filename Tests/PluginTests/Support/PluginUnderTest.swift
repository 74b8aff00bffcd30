import CChanservPlugin
import Foundation

let ready = chanserv_status(CHANSERV_READY)
let pending = chanserv_status(CHANSERV_PENDING)
let end = chanserv_status(CHANSERV_END)
let badRequest = chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
let notFound = chanserv_status(CHANSERV_ERROR_NOT_FOUND)
let internalError = chanserv_status(CHANSERV_ERROR_INTERNAL)

/// `sizeof(struct chanserv_request)` in version 1.0.
private let sizeOfRequest10: UInt32 = 40

/// Runs the body of a test on its own thread. Plugins must not be called on Swift's pool, whose threads must not block.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        Thread { continuation.resume(with: Swift.Result(catching: body)) }.start()
    }
}

/// The error of a plugin, with its status.
struct Refusal: Error, CustomStringConvertible {
    let status: chanserv_status
    let message: String

    var description: String { "\(status): \(message)" }
}

/// Calls a function of the ABI with a buffer for its message.
private func withError(_ body: (UnsafeMutablePointer<chanserv_error>) -> chanserv_status) -> (chanserv_status, String) {
    // A small buffer, so that the address sanitizer detects writes beyond it.
    let buffer = UnsafeMutableBufferPointer<CChar>.allocate(capacity: 256)
    buffer.initialize(repeating: 0)
    defer { buffer.deallocate() }
    var error = chanserv_error(message: buffer.baseAddress, capacity: buffer.count)
    let status = body(&error)
    return (status, String(cString: buffer.baseAddress!))
}

/// The build folder, which contains the libraries and the test bundle.
let buildFolder = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

/// The descriptor of a library.
func descriptor(of library: URL) throws -> chanserv_plugin {
    guard let handle = dlopen(library.path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
        throw Failure(String(cString: dlerror()))
    }
    guard let symbol = dlsym(handle, CHANSERV_ENTRY_NAME) else { throw Failure(String(cString: dlerror())) }
    typealias Entry = @convention(c) () -> UnsafePointer<chanserv_plugin>?
    guard let plugin = unsafeBitCast(symbol, to: Entry.self)() else { throw Failure("no descriptor") }
    return plugin.pointee
}

func descriptor(ofProduct name: String) throws -> chanserv_plugin {
    try descriptor(of: buildFolder.appending(path: "libChanserv\(name).so"))
}

/// An instance. It is destroyed with its last reference; its calls hold references.
final class Instance: @unchecked Sendable {
    // Sendable: the pointer never changes, and the functions of the ABI may be called from any thread.
    let plugin: chanserv_plugin
    let host: TestHost
    fileprivate let pointer: OpaquePointer
    /// Lent frames of closed sources.
    fileprivate let lent = LentFrames()

    init(_ plugin: chanserv_plugin, _ configuration: [String: ConfigurationValue] = [:]) throws {
        self.plugin = plugin
        let host = TestHost(configuration)
        self.host = host
        var instance: OpaquePointer?
        let (status, message) = withError { plugin.create(host.table, nil, &instance, $0) }
        host.dropConfiguration()
        guard status == ready, let instance else { throw Refusal(status: status, message: message) }
        pointer = instance
    }

    deinit {
        lent.endAll()
        plugin.destroy(pointer)
    }

    /// Releases the lent frames of closed sources.
    func releaseLent() { lent.endAll() }

    func open(_ request: String, _ context: Context? = Context()) throws -> Call {
        try open([UInt8](request.utf8), context)
    }

    /// - Parameter context: `nil` for a request of version 1.0.
    func open(_ request: [UInt8], _ context: Context? = Context()) throws -> Call {
        try Call(self, request, context)
    }

    /// Returns all sources of a request that must succeed.
    func sources(_ request: String) throws -> [Stream] {
        let call = try open(request)
        let (sources, last) = try call.collect()
        guard last.status == end else { throw Refusal(status: last.status, message: last.message) }
        return sources
    }
}

/// The fields that version 1.1 appended to a request.
struct Context: Sendable {
    var deadline: Int64 = -1
    var meta: String?
    /// Bytes in the place of ``meta``, without a zero among them. The host passes only UTF-8.
    var rawMeta: [UInt8]?
    var bucket: String?
    var traceparent: String?
    var peerAddress = ""
    var identity = ""
}

/// Lent frames that the host still uses.
final class LentFrames: @unchecked Sendable {
    // Sendable: the list is protected by the lock.
    private let lock = NSLock()
    private var frames: [LentFrame] = []

    func add(_ more: [LentFrame]) {
        lock.withLock { frames += more }
    }

    func takeAll() -> [LentFrame] {
        lock.withLock {
            defer { frames = [] }
            return frames
        }
    }

    func endAll() {
        for frame in takeAll() { frame.end() }
    }
}

/// A call. It is closed with its last reference; its sources hold references.
final class Call: @unchecked Sendable {
    // Sendable: see Instance. A test polls a call from one thread at a time.
    let instance: Instance
    fileprivate let pointer: OpaquePointer
    let wakeSignal = WakeSignal()

    fileprivate init(_ instance: Instance, _ body: [UInt8], _ context: Context?) throws {
        self.instance = instance
        var call: OpaquePointer?
        // A copy that is freed when open returns.
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, body.count), alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: body)
        let (status, message) = withError { error in
            "test".withCString { text in
                var request = chanserv_request()
                request.struct_size = sizeOfRequest10
                request.body = UnsafeRawPointer(copy.baseAddress)
                request.body_size = body.count
                request.vaddr = text
                request.remote_address = text
                var strings: [UnsafeMutablePointer<CChar>?] = []
                // Freed when open returns, like the body.
                defer { for string in strings { free(string) } }
                if let context {
                    strings = [
                        context.meta, context.bucket, context.traceparent, context.peerAddress, context.identity,
                    ].map { $0.map { strdup($0) } }
                    request.struct_size = UInt32(MemoryLayout<chanserv_request>.size)
                    request.deadline = context.deadline
                    if let bytes = context.rawMeta {
                        free(strings[0])
                        strings[0] = (bytes.map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer {
                            strdup($0.baseAddress!)
                        }
                    }
                    request.meta = UnsafePointer(strings[0])
                    request.bucket = UnsafePointer(strings[1])
                    request.traceparent = UnsafePointer(strings[2])
                    request.peer_address = UnsafePointer(strings[3])
                    request.identity = UnsafePointer(strings[4])
                }
                return instance.plugin.open(instance.pointer, &request, &call, error)
            }
        }
        guard status == ready, let call else {
            wakeSignal.remove()
            throw Refusal(status: status, message: message)
        }
        pointer = call
    }

    deinit {
        instance.plugin.close_call(pointer)
        wakeSignal.remove()
    }

    /// - Parameter whenFull: called in the sink each time before it refuses a source.
    func poll(limit: Int = .max, whenFull: @escaping () -> Void = {}) -> Answer<Stream> {
        let sink = SourceSink(limit: limit, wake: wakeSignal.handle, whenFull: whenFull)
        let (status, message) = withError { error in
            sink.poll { instance.plugin.poll_sources(pointer, $0, error) }
        }
        return Answer(status: status, items: sink.sources.map { Stream(self, $0.source, $0.header) }, message: message)
    }

    func cancel() {
        instance.plugin.cancel_call(pointer)
    }

    /// Polls until the end of the sources. Returns them and the last result.
    func collect(limit: Int = .max) throws -> (sources: [Stream], last: Answer<Stream>) {
        var sources: [Stream] = []
        while true {
            let answer = poll(limit: limit)
            sources += answer.items
            if answer.status == pending {
                try wakeSignal.wait()
            } else if answer.status != ready {
                return (sources, answer)
            }
        }
    }
}

/// A source. It is closed with its last reference.
final class Stream: @unchecked Sendable {
    // Sendable: see Call.
    private let call: Call
    private let pointer: OpaquePointer
    let header: [UInt8]
    let wakeSignal = WakeSignal()
    /// Frames that were lent in the last poll. Earlier ones are released.
    private let lent = LentFrames()

    fileprivate init(_ call: Call, _ pointer: OpaquePointer, _ header: [UInt8]) {
        self.call = call
        self.pointer = pointer
        self.header = header
    }

    deinit {
        call.instance.plugin.close_source(pointer)
        wakeSignal.remove()
        call.instance.lent.add(lent.takeAll())
    }

    func poll(_ room: Room = Room()) -> Answer<[UInt8]> {
        lent.endAll()
        let sink = FrameSink(room, wake: wakeSignal.handle)
        let (status, message) = withError { error in
            sink.poll { call.instance.plugin.poll_frames(pointer, $0, error) }
        }
        lent.add(sink.lent)
        return Answer(
            status: status, items: sink.frames, message: message, largestReservation: sink.largestReservation,
            lent: sink.lent.count)
    }

    func cancel() {
        call.instance.plugin.cancel_source(pointer)
    }

    /// Polls until the end of the source. Returns its frames and the last result.
    func collect(_ room: Room = Room()) throws -> (frames: [[UInt8]], last: Answer<[UInt8]>) {
        var frames: [[UInt8]] = []
        while true {
            let answer = poll(room)
            frames += answer.items
            if answer.status == pending {
                try wakeSignal.wait()
            } else if answer.status != ready {
                return (frames, answer)
            }
        }
    }

    /// Returns the frames of a source that must succeed.
    func frames(_ room: Room = Room()) throws -> [[UInt8]] {
        let (frames, last) = try collect(room)
        guard last.status == end else { throw Refusal(status: last.status, message: last.message) }
        return frames
    }

    /// Polls until there are `count` frames, and returns them as text.
    func texts(_ count: Int) throws -> [String] {
        var texts: [String] = []
        while texts.count < count {
            let answer = poll(.one)
            texts += answer.items.map { String(decoding: $0, as: UTF8.self) }
            if answer.status == pending {
                if texts.count < count { try wakeSignal.wait() }
            } else if answer.status != ready {
                throw Refusal(status: answer.status, message: answer.message)
            }
        }
        return texts
    }
}
