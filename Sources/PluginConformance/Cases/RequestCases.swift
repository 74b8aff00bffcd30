extension ConformanceCase {
    /// Valid and invalid requests.
    static let requests = [
        ConformanceCase("requests", "the given requests are answered") { run in
            let instance = try run.create(run.plugin())
            var seen: [String] = []
            var isAnswered = false
            for body in run.requests {
                let answer = try Exchange.run([body], on: instance).answers[0]
                isAnswered = isAnswered || answer.isAnswered
                seen.append("\(run.describe(body)): \(answer.summary)")
            }
            instance.destroy()
            return Verdict(
                isAnswered ? .pass : .warn,
                seen
                    + (isAnswered
                        ? [] : ["all cases ran on refusals only: give a request it can answer with --request"]))
        },
        ConformanceCase("requests-at-once", "requests that run at the same time do not disturb each other") { run in
            let instance = try run.create(run.plugin())
            let references = try run.references(instance)
            var options = ExchangeOptions()
            options.threads = 4
            options.frameLimit *= 16
            options.sourceLimit *= 16
            var failures: [String] = []
            for _ in 0..<3 where run.hasTime {
                let bodies = (0..<16).map { references[$0 % references.count] }
                let answers = try Exchange.run(bodies.map(\.body), on: instance, options).answers
                for (answer, reference) in zip(answers, bodies) {
                    guard failures.count < 3, let difference = answer.difference(from: reference.answer) else {
                        continue
                    }
                    failures.append("\(run.describe(reference.body)) beside 15 others: \(difference)")
                }
            }
            instance.destroy()
            return Verdict.judge(failures: failures)
        },
        ConformanceCase("garbage", "no request makes the plugin crash or hang, whatever its bytes") { run in
            let instance = try run.create(run.plugin())
            var options = ExchangeOptions()
            options.time = .milliseconds(300)
            options.byteLimit = 8 << 20
            for (_, body) in Garbage.all { _ = try Exchange.run([body], on: instance, options) }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase("request-size", "a request has exactly body_size bytes and no zero behind them") { run in
            let instance = try run.create(run.plugin(rule: .bounded))
            var options = ExchangeOptions()
            options.time = .milliseconds(300)
            for body in run.requests + Garbage.brief + [[]] { _ = try Exchange.run([body], on: instance, options) }
            instance.destroy()
            return Verdict(.pass)
        },
        ConformanceCase(
            "lifetimes", "the host's memory is not used after its lifetime: request, sinks, strings, messages"
        ) { run in
            let instance = try run.create(run.plugin(rule: .revoked))
            var options = ExchangeOptions()
            for body in run.requests { _ = try Exchange.run([body], on: instance, options) }
            instance.destroy()
            return Verdict(.pass)
        },
    ]
}

extension Answer {
    private static func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }

    /// The answer in words.
    var summary: String {
        if let refusal { return "refused: \(refusal.message.isEmpty ? "status \(refusal.status)" : refusal.message)" }
        let end =
            switch ending {
            case .end where isWhole: "to their ends"
            case .end, .cut: "cut off by the test"
            case .failed(_, let message): "then it failed: \(message)"
            }
        let failed = sources.compactMap { if case .failed(_, let message) = $0.ending { message } else { nil } }.first
        let failure = failed.map { ", one failed: \($0)" } ?? ""
        return "\(Self.count(sources.count, "source")), \(Self.count(frameCount, "frame"))\(failure), \(end)"
    }
}
