internal import HostConfiguration

/// Requests that a client ends early, and requests that fail. Most requests of a host end in such ways. A plugin that
/// releases its resources only at the last frame leaks them there.
extension CaseRun {
    /// Plans that end a request early: before the first poll of a source, between its polls with and without a cancel,
    /// before the first poll of the call, and between the polls of the call.
    private static let earlyEndPlans: [@Sendable (ExchangeOptions.Object) -> ExchangeOptions.Intervention] = [
        { $0.isCall ? .goOn : .close },
        { !$0.isCall && $0.polls >= 1 ? .cancelAndClose : .goOn },
        { !$0.isCall && $0.polls >= 2 ? .close : .goOn },
        { $0.isCall ? .close : .goOn },
        { $0.polls >= 1 ? .cancelAndClose : .goOn },
    ]

    /// Sends requests and reads them to their ends, ends them early in every way, and sends invalid ones.
    func runAndAbandon(_ bodies: [[UInt8]], on instance: TestedInstance, within time: Duration) throws(CaseEnd) {
        var options = ExchangeOptions()
        options.time = time
        _ = try Exchange.run(bodies, on: instance, options)
        options.frameLimit = 500
        options.byteLimit = 1 << 20
        _ = try Exchange.run(Garbage.brief, on: instance, options)
        // So little room that no answer fits into one poll.
        options.frames.room = 1
        options.sources.room = 2
        for plan in Self.earlyEndPlans {
            options.plan = plan
            _ = try Exchange.run(bodies, on: instance, options)
        }
    }

    /// Calls create with configurations that it should refuse: an unknown option, and each getter failing in turn.
    ///
    /// - Returns: how often create refused.
    func createWithErrors(_ plugin: TestedPlugin) -> Int {
        var refusals = 0
        func attempt(_ values: PluginConfiguration, _ failure: ConfigurationUse.Failure?) -> Int {
            let (instance, _, use) = TestedInstance.create(plugin, values, failure: failure)
            instance?.destroy()
            refusals += instance == nil ? 1 : 0
            return use.questions.count
        }
        if let spoilt = configuration.adding(key: Self.unknownKey) { _ = attempt(spoilt, nil) }
        // The number of questions grows with each answered one. The loop ends at the first call that the plugin does
        // not make.
        var number = 0
        while number < 16, attempt(configuration, .refuses(call: number)) > number { number += 1 }
        return refusals
    }
}
