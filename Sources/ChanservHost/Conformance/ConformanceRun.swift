internal import CProcess
internal import Glibc

/// The parent's side of a conformance run: one child for each case, one after the other.
package struct ConformanceRun: Sendable {
    /// A case and what became of it.
    package struct Result: Sendable, Hashable {
        package var name: String
        package var rule: String
        package var verdict: Verdict
    }

    private let order: CaseOrder
    private let limits: CaseProcess.Limits
    private let program: String
    private let arguments: @Sendable (String) -> [String]

    /// Checks what can be checked without running any code of the plugin.
    ///
    /// - Parameters:
    ///   - program: what to start as a child.
    ///   - arguments: its arguments for a case of this name; it is to call ``CaseProcess/run(_:_:memory:)``.
    /// - Throws: ``PluginLoadError`` where the file is no plugin, or the host would not load it.
    package init(
        _ order: CaseOrder, limits: CaseProcess.Limits, program: String,
        arguments: @escaping @Sendable (String) -> [String]
    ) throws(PluginLoadError) {
        let file = try PluginFile(path: order.file)
        if let problem = try PluginFile.library(file.bytes, path: order.file).entry.problem {
            throw PluginLoadError(.noEntry, path: order.file, problem)
        }
        self.order = order
        self.limits = limits
        self.program = program
        self.arguments = arguments
    }

    /// Runs `cases`.
    ///
    /// - Parameter report: is told of each as soon as it is over.
    /// - Throws: ``ProcessError`` where no process can be started.
    package func run(
        _ cases: [ConformanceCase] = ConformanceCase.all, report: (Result) -> Void
    ) async throws(ProcessError) -> [Result] {
        var results: [Result] = []
        // What the others would only say again.
        var obstacle: String?
        for found in cases {
            let verdict = if let obstacle { Verdict(.skip, [obstacle]) } else { try await run(found) }
            let result = Result(name: found.name, rule: found.rule, verdict: verdict)
            results.append(result)
            report(result)
            guard verdict.outcome == .fail else { continue }
            if found.name == ConformanceCase.loadName { obstacle = "it could not be loaded" }
            if found.name == ConformanceCase.createName { obstacle = "no instance could be made" }
        }
        return results
    }

    private func run(_ found: ConformanceCase) async throws(ProcessError) -> Verdict {
        let shared = chanserv_memfd_create("case")
        guard shared >= 0 else { throw ProcessError("cannot make a file in memory", code: errno) }
        defer { close(shared) }
        guard let record = CaseRecord(descriptor: shared) else {
            throw ProcessError("cannot share a file in memory", code: errno)
        }
        let output = try ChildOutput()
        var child = ChildProcess.Program(program, arguments(found.name))
        child.environment = Self.environment(of: found)
        child.output = output.writer
        child.errors = output.writer
        child.descriptors = [shared]
        let process = try await ChildProcess.start(child)
        output.closeWriter()
        let written = Task { await output.collect() }
        let exit = await process.waitForExit(until: .now + limits.time)
        if exit == nil { await process.kill() }
        output.childHasEnded()
        return verdict(of: found, exit, record, await written.value)
    }

    /// As here, but for what shows mistakes.
    private static func environment(of found: ConformanceCase) -> [String] {
        // Freed memory is filled, so that it is not taken for what it was. Where memory is measured, no thread keeps freed
        // pieces for itself, which would count as allocated.
        let exactly = found.name.hasPrefix("memory-") ? ":glibc.malloc.tcache_count=0" : ""
        let own = ["GLIBC_TUNABLES=glibc.malloc.perturb=165\(exactly)", "SWIFT_BACKTRACE=enable=no"]
        var entries: [String] = []
        var entry = environ
        while let text = entry.pointee {
            entries.append(String(cString: text))
            entry += 1
        }
        let names = own.map { String($0.prefix { $0 != "=" }) + "=" }
        return entries.filter { entry in !names.contains { entry.hasPrefix($0) } } + own
    }

    private func verdict(
        of found: ConformanceCase, _ exit: ChildExit?, _ record: CaseRecord, _ output: [UInt8]
    ) -> Verdict {
        let running = record.running.map(\.name)
        let place =
            running.isEmpty
            ? "while no function of the plugin was running" : "in \(running.joined(separator: " and "))"
        let said = output.isEmpty ? [] : ["it wrote: \(quoted(String(decoding: output.prefix(300), as: UTF8.self)))"]
        guard let exit else {
            return Verdict(
                .fail, ["it did not come to an end within \(ValueGrammar.text(limits.time)), \(place)"] + said)
        }
        guard let verdict = record.verdict else {
            switch exit {
            case .exited(let code):
                return Verdict(.fail, ["the process was ended with exit code \(code) \(place)"] + said)
            case .signalled, .unknown:
                return Verdict(.fail, ["the process \(exit) \(place)"] + said)
            }
        }
        if !exit.isSuccess { return Verdict(.fail, ["the process \(exit) when it was over"] + said) }
        if found.name == ConformanceCase.silentName, verdict.outcome != .skip, !output.isEmpty {
            return Verdict(.fail, said)
        }
        return verdict
    }
}
