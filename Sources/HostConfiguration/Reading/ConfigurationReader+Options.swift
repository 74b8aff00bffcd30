extension ConfigurationReader {
    /// Keys of `defaults` and of a route that set its options.
    static let optionKeys = ["compression", "timeouts", "error_mass", "drain", "batch_size", "limits"]

    /// Returns the options in `entries`, with `inherited` for missing keys.
    mutating func options(_ entries: Entries, over inherited: RouteOptions) -> RouteOptions {
        var options = inherited
        if let value = value("compression", in: entries, { (node) throws(ConfigurationError) in try node.boolean() }) {
            options.compression = value
        }
        if let entry = entries["timeouts"] { readTimeouts(entry.value, into: &options.timeouts) }
        if let entry = entries["error_mass"] { readErrorMass(entry.value, into: &options.errorMass) }
        if let value = duration("drain", in: entries) { options.drain = value }
        let batchSize = value("batch_size", in: entries) { (node) throws(ConfigurationError) in
            try node.size(in: 1...(64 << 20))
        }
        if let batchSize { options.batchSize = batchSize }
        if let entry = entries["limits"] { readLimits(entry.value, into: &options.limits) }
        return options
    }

    /// Returns a duration; 0 is valid. Returns `nil` if the key is missing or its value is wrong, which is reported.
    mutating func duration(_ key: String, in entries: Entries) -> Duration? {
        value(key, in: entries) { (node) throws(ConfigurationError) in try node.boundedDuration() }
    }

    private static let timeoutKeys: [(String, WritableKeyPath<RouteOptions.Timeouts, Duration?> & Sendable)] = [
        ("serving", \.serving), ("sourcing", \.sourcing), ("master_read", \.masterRead),
        ("master_write", \.masterWrite), ("frame_write", \.frameWrite),
    ]

    private mutating func readTimeouts(_ node: YAMLNode, into timeouts: inout RouteOptions.Timeouts) {
        let entries = section(node, "timeouts", known: Self.timeoutKeys.map(\.0) + ["chan_accept"])
        for (key, path) in Self.timeoutKeys {
            if let value = optionalDuration(key, in: entries) { timeouts[keyPath: path] = value }
        }
        let chanAccept = value("chan_accept", in: entries) { (node) throws(ConfigurationError) in
            try node.positiveDuration("timeout")
        }
        if let chanAccept { timeouts.chanAccept = chanAccept }
    }

    private mutating func readLimits(_ node: YAMLNode, into limits: inout RouteOptions.Limits) {
        let place = "under 'limits' of a plugin"
        let entries = section(
            node, "limits", known: ["requests", "concurrent", "unaccepted_sources"],
            elsewhere: ["address_space": place, "cpu": place, "open_files": place])
        if let value = integer("requests", in: entries, 1...1_000_000) { limits.requests = value }
        let concurrent = value("concurrent", in: entries) { (node) throws(ConfigurationError) in
            try node.integerOrNone(in: 1...1_000_000)
        }
        if let concurrent { limits.concurrent = concurrent }
        if let value = integer("unaccepted_sources", in: entries, 1...1_000_000) { limits.unacceptedSources = value }
    }

    private mutating func readErrorMass(_ node: YAMLNode, into errorMass: inout RouteOptions.ErrorMass) {
        let entries = section(node, "the error mass", known: ["limit", "pause", "max_pause"])
        let limit = value("limit", in: entries) { (node) throws(ConfigurationError) in
            try node.integerOrNone(in: 1...1_000_000)
        }
        if let limit { errorMass.limit = limit }
        let pause = value("pause", in: entries) { (node) throws(ConfigurationError) in
            try node.positiveDuration("pause")
        }
        let maxPause = value("max_pause", in: entries) { (node) throws(ConfigurationError) in
            try node.positiveDuration("pause")
        }
        errorMass.pause = pause ?? errorMass.pause
        errorMass.maxPause = maxPause ?? errorMass.maxPause
        // Only if this section sets one of the two: an inherited contradiction is reported where it was set.
        guard errorMass.pause > errorMass.maxPause, let entry = entries["pause"] ?? entries["max_pause"],
            pause != nil || maxPause != nil
        else { return }
        report(
            "the pause (\(ValueGrammar.text(errorMass.pause))) is longer than max_pause "
                + "(\(ValueGrammar.text(errorMass.maxPause)))", at: entry.value.location)
    }
}

extension YAMLNode {
    /// Returns an integer within `bounds`, or `nil` for `none` or `off`.
    fileprivate func integerOrNone(in bounds: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
        isNone ? nil : try integer(in: bounds, "an integer, or none")
    }
}
