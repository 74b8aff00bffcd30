internal import CChanservPlugin
internal import HostConfiguration

extension ConformanceCase {
    /// How create handles configurations.
    static let configurations = [
        ConformanceCase("unknown-option", "a misspelt option is an error at start, with a message") { run in
            let plugin = try run.plugin()
            try run.create(plugin).destroy()
            guard let spoilt = run.configuration.adding(key: CaseRun.unknownKey) else {
                throw CaseEnd(.skip, "the configuration has the key '\(CaseRun.unknownKey)'")
            }
            let (instance, reply, _) = TestedInstance.create(plugin, spoilt)
            if let instance {
                instance.destroy()
                return Verdict(
                    .warn,
                    ["create accepted a configuration with the key '\(CaseRun.unknownKey)'; use host->config_only"])
            }
            return Verdict.judge(
                failures: [],
                warnings: reply.message.isEmpty ? ["create refused the configuration without a message"] : [])
        },
        ConformanceCase("wrong-types", "values of the wrong type are an error at start, with a message") { run in
            let plugin = try run.plugin()
            let (instance, _, use) = TestedInstance.create(plugin, run.configuration)
            guard let instance else { throw CaseEnd(.skip, "create refused the configuration") }
            instance.destroy()
            var warnings: [String] = []
            var tried = false
            for question in Set(use.questions).sorted(by: { $0.path < $1.path }) {
                guard let key = question.path.split(separator: ".").first.map(String.init) else { continue }
                for (what, value) in wrongValues(for: question.getter, at: run.configuration.location) where run.hasTime
                {
                    guard let spoilt = run.configuration.setting(key: key, to: value) else { continue }
                    tried = true
                    let (instance, reply, _) = TestedInstance.create(plugin, spoilt)
                    if let instance {
                        instance.destroy()
                        warnings.append(
                            "create accepted \(what) for '\(key)', which it reads with \(question.getter.rawValue)")
                    } else if reply.message.isEmpty {
                        warnings.append("create refused \(what) for '\(key)' without a message")
                    }
                }
            }
            guard tried else { throw CaseEnd(.skip, "create reads no option by its name") }
            return Verdict.judge(failures: [], warnings: warnings)
        },
        ConformanceCase("failing-getters", "create passes on the error of a getter, and accepts a missing key") {
            run in
            let plugin = try run.plugin()
            let (instance, _, use) = TestedInstance.create(plugin, run.configuration)
            guard let instance else { throw CaseEnd(.skip, "create refused the configuration") }
            instance.destroy()
            TestedInstance.create(plugin, run.configuration, failure: .hasNothing).instance?.destroy()
            var warnings: [String] = []
            for number in use.questions.indices where run.hasTime {
                let (instance, _, failed) = TestedInstance.create(
                    plugin, run.configuration, failure: .refuses(call: number))
                guard let instance, failed.hasFailed else { continue }
                instance.destroy()
                let getter = failed.questions[number].getter.rawValue
                warnings.append("create succeeded although \(getter) had returned CHANSERV_ERROR_BAD_REQUEST")
            }
            if use.questions.isEmpty { throw CaseEnd(.skip, "create reads no option") }
            return Verdict.judge(failures: [], warnings: Array(warnings.prefix(5)))
        },
    ]

    /// Returns values that the getter rejects.
    private static func wrongValues(
        for getter: ConfigurationGetter, at place: ConfigurationLocation
    ) -> [(String, YAMLNode.Content)] {
        let list = YAMLNode.Content.list([YAMLNode(.scalar(YAMLScalar(string: "x")), at: place)])
        let text = ("a text", YAMLNode.Content.scalar(YAMLScalar(string: "no such value")))
        let both = [("a list", list), ("a mapping", YAMLNode.Content.mapping([]))]
        switch getter {
        case .json, .only: return []
        case .string, .path: return both + [("an integer", .scalar(YAMLScalar(plain: "12")))]
        case .integer, .number:
            return both + [text, ("60 digits", .scalar(YAMLScalar(plain: String(repeating: "9", count: 60))))]
        case .boolean: return both + [text, ("an integer", .scalar(YAMLScalar(plain: "1")))]
        case .duration, .size: return both + [text, ("a negative value", .scalar(YAMLScalar(string: "-5s")))]
        case .count: return [text, ("a mapping", .mapping([]))]
        case .keys: return [text, ("a list", list)]
        }
    }
}
