internal import CChanservPlugin
internal import NIOConcurrencyHelpers

/// What a case has to work with.
final class CaseRun: Sendable {
    let library: CaseLibrary
    let record: CaseRecord
    let configuration: PluginConfiguration
    let requests: [[UInt8]]
    private let began = monotonicNanoseconds()

    init(library: CaseLibrary, record: CaseRecord, configuration: PluginConfiguration, requests: [[UInt8]]) {
        self.library = library
        self.record = record
        self.configuration = configuration
        self.requests = requests
    }

    /// Whether a case that repeats something should go on: a plugin that takes its time gets fewer repetitions.
    var hasTime: Bool { monotonicNanoseconds() - began < 2_500_000_000 }

    /// Reads the descriptor.
    func plugin(
        errorCapacity: Int = 1024, rule: Lender.Rule = .plain, watchesThreads: Bool = false,
        isVersion10: Bool = false
    ) throws(CaseEnd) -> TestedPlugin {
        do throws(PluginDescriptor.Refusal) {
            let descriptor = try PluginDescriptor(library.pointer)
            return TestedPlugin(
                descriptor, record: record, errorCapacity: errorCapacity, rule: rule, watchesThreads: watchesThreads,
                isVersion10: isVersion10)
        } catch {
            throw CaseEnd(.skip, "the descriptor is refused")
        }
    }

    /// Makes an instance with the configuration that was given.
    func create(_ plugin: TestedPlugin) throws(CaseEnd) -> TestedInstance {
        let (instance, reply, _) = TestedInstance.create(plugin, configuration)
        guard let instance else { throw CaseEnd(.skip, "create refused the configuration: \(reply.message)") }
        return instance
    }

    // MARK: - Requests

    /// What an instance answers to a request when it has room and time.
    struct Reference: Sendable {
        var body: [UInt8]
        var answer: Answer
    }

    /// The requests whose answers can be compared: asked twice, they are the same.
    func references(_ instance: TestedInstance) throws(CaseEnd) -> [Reference] {
        var references: [Reference] = []
        for body in requests {
            let first = try Exchange.run([body], on: instance).answers[0]
            let second = try Exchange.run([body], on: instance).answers[0]
            if first.difference(from: second) == nil { references.append(Reference(body: body, answer: first)) }
        }
        if references.isEmpty {
            throw CaseEnd(.skip, "no request is answered twice in the same way, so that answers can be compared")
        }
        return references
    }

    /// Carries each request through in a special way and compares its answer with the usual one.
    ///
    /// - Returns: what is different.
    func compare(_ instance: TestedInstance, _ options: ExchangeOptions, what: String) throws(CaseEnd) -> [String] {
        let references = try references(instance)
        if references.allSatisfy({ $0.answer.refusal != nil }) { throw CaseEnd(.skip, Self.onlyRefusals) }
        var differences: [String] = []
        for reference in references {
            let answer = try Exchange.run([reference.body], on: instance, options).answers[0]
            if let difference = answer.difference(from: reference.answer) {
                differences.append("\(describe(reference.body)): \(what): \(difference)")
            }
        }
        return differences
    }

    /// A case that needs an answer where there is none.
    static let onlyRefusals = "every request was refused; give one it can answer with --request"

    /// A request for a message.
    func describe(_ body: [UInt8]) -> String {
        body.isEmpty ? "the empty request" : "request \(quoted(String(decoding: body.prefix(200), as: UTF8.self)))"
    }

    /// A bit of everything: an instance, its requests, some garbage, cancellations, and a configuration that is refused.
    ///
    /// - Parameter rounds: how often.
    func exercise(_ plugin: TestedPlugin, rounds: Int = 1) throws(CaseEnd) {
        for _ in 0..<rounds {
            if let spoilt = configuration.adding(key: Self.unknownKey) {
                TestedInstance.create(plugin, spoilt).instance?.destroy()
            }
            let instance = try create(plugin)
            var brief = ExchangeOptions()
            brief.time = .milliseconds(300)
            for body in requests { _ = try Exchange.run([body], on: instance, brief) }
            brief.frameLimit = 500
            brief.byteLimit = 1 << 20
            _ = try Exchange.run(Garbage.brief, on: instance, brief)
            for polls in 1..<3 {
                brief.plan = { $0.polls == polls ? .cancel : .goOn }
                _ = try Exchange.run(requests, on: instance, brief)
            }
            instance.destroy()
        }
    }

    /// No plugin has such an option.
    static let unknownKey = "chanserv_test_unknown_key"
}
