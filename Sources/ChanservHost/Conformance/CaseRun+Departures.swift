/// Clients that go before the end, and such as ask for what is refused: most of what a host sees leaves by other ways than
/// the last frame, and what is given back only there is lost on them.
extension CaseRun {
    /// The ways to go: before the first poll of a source, in its middle with a cancel and without, before the first poll of
    /// the call, and in the middle of its list.
    private static let departures: [@Sendable (ExchangeOptions.Object) -> ExchangeOptions.Intervention] = [
        { $0.isCall ? .goOn : .close },
        { !$0.isCall && $0.polls >= 1 ? .cancelAndClose : .goOn },
        { !$0.isCall && $0.polls >= 2 ? .close : .goOn },
        { $0.isCall ? .close : .goOn },
        { $0.polls >= 1 ? .cancelAndClose : .goOn },
    ]

    /// Carries requests through to their ends, goes away from them in every way, and asks for what nobody serves.
    func comeAndGo(_ bodies: [[UInt8]], on instance: TestedInstance, within time: Duration) throws(CaseEnd) {
        var options = ExchangeOptions()
        options.time = time
        _ = try Exchange.run(bodies, on: instance, options)
        options.frameLimit = 500
        options.byteLimit = 1 << 20
        _ = try Exchange.run(Garbage.brief, on: instance, options)
        // So little room that no answer of some size is over at the first poll.
        options.frames.room = 1
        options.sources.room = 2
        for departure in Self.departures {
            options.plan = departure
            _ = try Exchange.run(bodies, on: instance, options)
        }
    }

    /// Has create refuse the configuration: an option that no plugin has, and each getter it asks in turn.
    ///
    /// - Returns: how often it refused.
    func createInVain(_ plugin: TestedPlugin) -> Int {
        var refusals = 0
        func attempt(_ values: PluginConfiguration, _ failure: ConfigurationUse.Failure?) -> Int {
            let (instance, _, use) = TestedInstance.create(plugin, values, failure: failure)
            instance?.destroy()
            refusals += instance == nil ? 1 : 0
            return use.questions.count
        }
        if let spoilt = configuration.adding(key: Self.unknownKey) { _ = attempt(spoilt, nil) }
        // The number of questions grows while they are answered, so the first that is not asked is the last.
        var number = 0
        while number < 16, attempt(configuration, .refuses(call: number)) > number { number += 1 }
        return refusals
    }
}
