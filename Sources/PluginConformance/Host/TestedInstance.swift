internal import CChanservPlugin
internal import HostConfiguration
internal import NIOConcurrencyHelpers
internal import PluginRuntime
internal import Synchronization

/// An instance of the plugin under test.
final class TestedInstance: Sendable {
    let plugin: TestedPlugin
    let host: ConformanceHost
    private let pointer: PluginPointer
    /// Held during each call if the plugin's functions must not overlap.
    private let lane: NIOLock?
    /// Lent frames that are kept beyond the end of their sources.
    let leases = TestedLeases()

    /// Calls create.
    ///
    /// - Parameter failure: the failure of the getters to inject.
    /// - Returns: the instance, or `nil` if create refused; the reply of create; and the calls of the getters.
    static func create(
        _ plugin: TestedPlugin, _ values: PluginConfiguration, failure: ConfigurationUse.Failure? = nil
    ) -> (instance: TestedInstance?, reply: TestedPlugin.Reply, use: ConfigurationUse) {
        let host = ConformanceHost(
            findings: plugin.findings, lender: plugin.lender, isVersion10: plugin.isVersion10)
        var pointer: OpaquePointer?
        let reply = host.lending(values, failure: failure) { config in
            plugin.callFailing(.create, allowed: [CHANSERV_READY]) { error in
                plugin.descriptor.create(host.pointer, config, &pointer, error)
            }
        }
        let use = host.configuration.withLockedValue { $0 }
        guard reply.status == CHANSERV_READY else { return (nil, reply, use) }
        guard let pointer else {
            plugin.findings.record(.status, "create returned CHANSERV_READY without an instance (*instance is NULL)")
            return (nil, TestedPlugin.Reply(status: Int32(CHANSERV_ERROR_INTERNAL), message: "no instance"), use)
        }
        return (TestedInstance(plugin, host, PluginPointer(raw: pointer)), reply, use)
    }

    private init(_ plugin: TestedPlugin, _ host: ConformanceHost, _ pointer: PluginPointer) {
        self.plugin = plugin
        self.host = host
        self.pointer = pointer
        lane = plugin.descriptor.isSerial ? NIOLock() : nil
    }

    func destroy() {
        leases.end(plugin)
        plugin.call(.destroy, lane: lane) { plugin.descriptor.destroy(pointer.raw) }
    }

    /// Calls open.
    ///
    /// - Returns: the call, or `nil` if the plugin refused; and the reply of open.
    func open(_ body: [UInt8]) -> (call: PluginPointer?, reply: TestedPlugin.Reply) {
        let loans = Loans(plugin.lender)
        defer { loans.end() }
        func lend(_ text: String) -> UnsafePointer<CChar> {
            let loan = Array(text.utf8CString).withUnsafeBytes { plugin.lender.lend(copying: $0) }
            return UnsafePointer(loans.add(loan).assumingMemoryBound(to: CChar.self))
        }
        let size = plugin.isVersion10 ? Self.sizeOfRequest10 : MemoryLayout<chanserv_request>.size
        let request = loans.add(plugin.lender.lend(size, isStruct: true, isExact: plugin.isVersion10))
        var plain = chanserv_request()
        plain.struct_size = UInt32(size)
        plain.body = UnsafeRawPointer(loans.add(body.withUnsafeBytes { plugin.lender.lend(copying: $0) }))
        plain.body_size = body.count
        plain.vaddr = lend("conformance")
        plain.remote_address = lend("0123456789abcdef:1")
        // Every third request has no deadline and no context.
        plain.deadline = -1
        if openings.wrappingAdd(1, ordering: .relaxed).oldValue % 3 != 2 {
            plain.deadline = 60_000_000_000
            plain.meta = lend("conformance test")
            plain.bucket = lend("7")
            plain.traceparent = lend("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        }
        plain.peer_address = lend("127.0.0.1:4242")
        plain.identity = lend("")
        request.copyMemory(from: &plain, byteCount: size)

        var pointer: OpaquePointer?
        let reply = plugin.callFailing(.open, lane: lane, allowed: [CHANSERV_READY]) { error in
            plugin.descriptor.open(
                self.pointer.raw, request.assumingMemoryBound(to: chanserv_request.self), &pointer, error)
        }
        guard reply.status == CHANSERV_READY else { return (nil, reply) }
        guard let pointer else {
            plugin.findings.record(.status, "open returned CHANSERV_READY without a call (*call is NULL)")
            return (nil, TestedPlugin.Reply(status: Int32(CHANSERV_ERROR_INTERNAL), message: "no call"))
        }
        return (PluginPointer(raw: pointer), reply)
    }

    /// `sizeof(struct chanserv_request)` in version 1.0, which never changes.
    private static let sizeOfRequest10 = 40
    private let openings = Atomic<Int>(0)

    private static let pollAnswers = [CHANSERV_READY, CHANSERV_PENDING, CHANSERV_END]

    func pollSources(_ call: PluginPointer, _ sink: StrictSourceSink) -> TestedPlugin.Reply {
        plugin.callFailing(.pollSources, lane: lane, allowed: Self.pollAnswers) { error in
            sink.lend(plugin) { plugin.descriptor.pollSources(call.raw, $0, error) }
        }
    }

    func pollFrames(_ source: PluginPointer, _ sink: StrictFrameSink) -> TestedPlugin.Reply {
        plugin.callFailing(.pollFrames, lane: lane, allowed: Self.pollAnswers) { error in
            sink.lend(plugin, leases) { plugin.descriptor.pollFrames(source.raw, $0, error) }
        }
    }

    func cancelCall(_ call: PluginPointer) {
        plugin.call(.cancelCall, lane: lane) { plugin.descriptor.cancelCall(call.raw) }
    }

    func cancelSource(_ source: PluginPointer) {
        plugin.call(.cancelSource, lane: lane) { plugin.descriptor.cancelSource(source.raw) }
    }

    func closeCall(_ call: PluginPointer) {
        plugin.call(.closeCall, lane: lane) { plugin.descriptor.closeCall(call.raw) }
    }

    func closeSource(_ source: PluginPointer) {
        plugin.call(.closeSource, lane: lane) { plugin.descriptor.closeSource(source.raw) }
    }
}
