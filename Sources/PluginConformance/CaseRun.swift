internal import CChanservPlugin
internal import HostConfiguration
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// The library, configuration and requests of a case, with helpers.
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

    /// Whether a case should repeat its test. After 2.5 s it should not, so that slow plugins get fewer repetitions.
    var hasTime: Bool { monotonicNanoseconds() - began < 2_500_000_000 }

    /// Returns the plugin after checking its descriptor.
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

    /// Creates an instance with the configuration of the run.
    func create(_ plugin: TestedPlugin) throws(CaseEnd) -> TestedInstance {
        let (instance, reply, _) = TestedInstance.create(plugin, configuration)
        guard let instance else { throw CaseEnd(.skip, "create refused the configuration: \(reply.message)") }
        return instance
    }

    // MARK: - Requests

    /// The answer of an instance to a request without limits.
    struct Reference: Sendable {
        var body: [UInt8]
        var answer: Answer
    }

    /// Returns the requests whose answers can be compared: three requests in a row get equal answers. One of them has no
    /// deadline and no tags (``TestedInstance/open(_:)``).
    func references(_ instance: TestedInstance) throws(CaseEnd) -> [Reference] {
        var references: [Reference] = []
        for body in requests {
            let answer = try Exchange.run([body], on: instance).answers[0]
            var isStable = true
            for _ in 0..<2 where isStable {
                isStable = try Exchange.run([body], on: instance).answers[0].difference(from: answer) == nil
            }
            if isStable { references.append(Reference(body: body, answer: answer)) }
        }
        if references.isEmpty {
            throw CaseEnd(.skip, "no request always gets the same answer, so answers cannot be compared")
        }
        return references
    }

    /// Sends each request with `options` and compares its answer with the usual one.
    ///
    /// - Returns: the differences.
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

    /// The reason to skip a case that needs an answer.
    static let onlyRefusals = "the plugin refused every request; pass one that it can answer with --request"

    /// Returns the request as text for a message.
    func describe(_ body: [UInt8]) -> String {
        body.isEmpty ? "the empty request" : "request \(quoted(String(decoding: body.prefix(200), as: UTF8.self)))"
    }

    /// Uses most functions of a plugin: an instance, its requests, invalid requests, cancellations, and a configuration
    /// that it should refuse.
    ///
    /// - Parameter rounds: number of repetitions.
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

    /// A key that no plugin has.
    static let unknownKey = "chanserv_test_unknown_key"
}
