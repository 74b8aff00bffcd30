extension ConfigurationSchema {
    /// An entry of `routes`.
    static let route = OptionSection<HostConfiguration.Route>(
        "a route", routeNames + routeOptions.map { $0.at(\.options) })

    /// The keys of a route that `defaults` does not have.
    static let routeNames: [ConfigurationOption<HostConfiguration.Route>] = [
        ConfigurationOption(
            "vaddr", \.vAddr, .serviceName("a virtual address such as files"), required: true,
            "the virtual address, without the environment",
            "With the environment it has at most 255 bytes too. No two routes have the same."),
        ConfigurationOption(
            "plugin", \.plugin, .text("the name of a plugin"), required: true, "a name under `plugins`"),
        ConfigurationOption(
            "config", type: "mapping", text: { $0.configuration.json == "{}" ? "empty" : $0.configuration.json },
            "merged over the configuration of the plugin",
            "Mappings are merged key by key at every depth; lists and other values are replaced. `null` (`~`) removes "
                + "a key.",
            read: { reader, entry, route in
                // The route's configuration without the plugin's. The reader merges them.
                route.configuration = PluginConfiguration(
                    reader.pluginConfiguration(entry.value), folder: reader.folder)
            }),
    ]

    /// The options of a route, which `defaults` also has.
    static let routeOptions: [ConfigurationOption<RouteOptions>] = [
        ConfigurationOption(
            "compression", \.compression, .boolean, "LZ4 for frames of more than 12 bytes that become smaller",
            "It saves bandwidth and costs processor time."),
        ConfigurationOption("timeouts", \.timeouts, timeouts),
        ConfigurationOption("error_mass", \.errorMass, errorMass),
        ConfigurationOption(
            "drain", \.drain, .duration, "time for open requests when their route is removed or gets new code",
            "Also when `chanserv drain` withdraws it. Then they are cancelled."),
        ConfigurationOption(
            "batch_size", \.batchSize, .size(1...(64 << 20)), "bytes of frames at which a batch is sent"),
        ConfigurationOption("limits", \.limits, routeLimits),
        ConfigurationOption("deploy", \.deploy, deploy),
        ConfigurationOption("access", \.access, routeAccess),
    ]

    private static let timeouts = OptionSection<RouteOptions.Timeouts>(
        "timeouts",
        [
            ConfigurationOption(
                "serving", \.serving, .timeout, "for the list of sources, and for each source",
                "A source has this time from its acceptance by the client to its end."),
            ConfigurationOption(
                "sourcing", \.sourcing, .timeout, "until the plugin lists its first source, and between two sources"),
            ConfigurationOption(
                "chan_accept", \.chanAccept, .positiveDuration("timeout"),
                "until the client accepts an announced source",
                "It restarts each time the client accepts one of the same request."),
            ConfigurationOption("master_read", \.masterRead, .timeout, "until the body of the request has arrived"),
            ConfigurationOption(
                "master_write", \.masterWrite, .timeout, "until the client has room for the announcement of a source"),
            ConfigurationOption(
                "frame_write", \.frameWrite, .timeout, "until the client has room for a batch of frames"),
        ])

    private static let errorMass = OptionSection<RouteOptions.ErrorMass>(
        "the error mass",
        [
            ConfigurationOption(
                "limit", \.limit, ValueType.integer(1...1_000_000, "an integer, or none").orNone,
                "failures in a row after which the route is withdrawn, or none",
                "Clients then use other hosts. One success resets the count."),
            ConfigurationOption(
                "pause", \.pause, .positiveDuration("pause"), "time until one request is let through as a probe",
                "Each failed probe doubles the pause. A reload that gives the route new code or another `config` ends "
                    + "the pause and resets the count."),
            ConfigurationOption("max_pause", \.maxPause, .positiveDuration("pause"), "maximum pause; at least `pause`"),
        ],
        check: { reader, entries, errorMass in
            // Only if this section sets one of the two: an inherited contradiction is reported where it was set.
            guard errorMass.pause > errorMass.maxPause, let entry = entries["pause"] ?? entries["max_pause"] else {
                return
            }
            reader.report(
                "the pause (\(ValueGrammar.text(errorMass.pause))) is longer than max_pause "
                    + "(\(ValueGrammar.text(errorMass.maxPause)))", at: entry.value.location)
        })

    private static let deploy = OptionSection<RouteOptions.Deploy>(
        "the deployment",
        [
            ConfigurationOption(
                "probation", \.probation, .timeout,
                "time for which the old version of the plugin stays ready after a reload, or none",
                "If the new version crashes, fails in as many requests in a row as `error_mass.limit`, or is worse than "
                    + "the old one, the host returns to the old one. Without enough requests the probation goes on."),
            ConfigurationOption(
                "control", \.control, .integer(0...50),
                "percentage of requests that the old version answers meanwhile, for comparison",
                "0: nothing is compared; only a crash, or failures in a row, return to the old version."),
            ConfigurationOption(
                "requests", \.requests, .integer(1...1_000_000),
                "minimum requests of each version for the end of the probation"),
            ConfigurationOption(
                "failure_ratio", \.failureRatio, ValueType.number(1...1_000).orNone,
                "maximum failure rate, as a multiple of the old version's",
                "One percent of all requests is allowed in any case."),
            ConfigurationOption(
                "latency_ratio", \.latencyRatio, ValueType.number(1...1_000).orNone,
                "maximum time until the first frame, as a multiple of the old version's"),
        ])

    private static let routeLimits = OptionSection<RouteOptions.Limits>(
        "limits",
        [
            ConfigurationOption(
                "requests", \.requests, .integer(1...1_000_000),
                "maximum requests that list sources; further ones wait",
                "Beyond 16,384 waiting requests further ones are refused as busy."),
            ConfigurationOption(
                "concurrent", \.concurrent, ValueType.integer(1...1_000_000, "an integer, or none").orNone,
                "maximum open and waiting requests; further ones are refused as busy",
                "This includes requests that only send frames. They are refused before they are accepted, so that "
                    + "their clients try another host."),
            ConfigurationOption(
                "unaccepted_sources", \.unacceptedSources, .integer(1...1_000_000),
                "maximum announced, not yet accepted sources per request",
                "Further sources wait. A client may grant fewer: one of this project grants 64 by default, and fewer "
                    + "while many of its requests are open."),
        ],
        elsewhere: Dictionary(uniqueKeysWithValues: processLimits.keys.map { ($0, "under 'limits' of a plugin") }))
}
