internal import CProcess
internal import Glibc
internal import HostConfiguration
package import PluginRuntime

/// A test run in the parent process: starts one child for each case, one after the other.
package struct ConformanceRun: Sendable {
    /// A case and its verdict.
    package struct Result: Sendable, Hashable {
        package var name: String
        package var rule: String
        package var verdict: Verdict
    }

    private let order: ConformanceInput
    private let limits: CaseProcess.Limits
    private let program: String
    private let arguments: @Sendable (String) -> [String]

    /// Checks the file without running any code of the plugin.
    ///
    /// - Parameters:
    ///   - program: the executable to start as a child.
    ///   - arguments: its arguments for the case with this name. The child must call ``CaseProcess/run(_:_:memory:)``.
    /// - Throws: ``PluginLoadError`` if the file is not a plugin, or the host would not load it.
    package init(
        _ order: ConformanceInput, limits: CaseProcess.Limits, program: String,
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
    /// - Parameter report: called after each case.
    /// - Throws: ``ProcessError`` if a process cannot be started.
    package func run(
        _ cases: [ConformanceCase] = ConformanceCase.all, report: (Result) -> Void
    ) async throws(ProcessError) -> [Result] {
        var results: [Result] = []
        // The reason to skip the remaining cases: they would fail in the same way.
        var obstacle: String?
        for testCase in cases {
            let verdict = if let obstacle { Verdict(.skip, [obstacle]) } else { try await run(testCase) }
            let result = Result(name: testCase.name, rule: testCase.rule, verdict: verdict)
            results.append(result)
            report(result)
            guard verdict.outcome == .fail else { continue }
            if testCase.name == ConformanceCase.loadName { obstacle = "the plugin could not be loaded" }
            if testCase.name == ConformanceCase.createName { obstacle = "no instance could be created" }
        }
        return results
    }

    private func run(_ testCase: ConformanceCase) async throws(ProcessError) -> Verdict {
        let shared = chanserv_memfd_create("case")
        guard shared >= 0 else { throw ProcessError("cannot create a file in memory", code: errno) }
        defer { close(shared) }
        guard let record = CaseRecord(descriptor: shared) else {
            throw ProcessError("cannot share a file in memory", code: errno)
        }
        let output = try ChildOutput()
        var child = ChildProcess.Program(program, arguments(testCase.name))
        child.environment = Self.environment(of: testCase)
        child.output = output.writer
        child.errors = output.writer
        child.descriptors = [shared]
        let process = try await ChildProcess.start(child)
        output.closeWriter()
        let written = Task { await output.collect() }
        let exit = await process.waitForExit(until: .now + limits.time)
        if exit == nil { await process.kill() }
        output.childHasEnded()
        return verdict(of: testCase, exit, record, await written.value)
    }

    /// Returns the environment of this process with settings that reveal errors.
    private static func environment(of testCase: ConformanceCase) -> [String] {
        // malloc fills freed memory, so that a plugin does not read old values there. In cases that measure memory the
        // thread caches are off, because freed memory in them would count as allocated.
        let exactly = testCase.name.hasPrefix("memory-") ? ":glibc.malloc.tcache_count=0" : ""
        let own = ["GLIBC_TUNABLES=glibc.malloc.perturb=165\(exactly)", "SWIFT_BACKTRACE=enable=no"]
        var entries: [String] = []
        var entry = environ
        while let text = entry.pointee {
            entries.append(String(systemString: text))
            entry += 1
        }
        let names = own.map { String($0.prefix { $0 != "=" }) + "=" }
        return entries.filter { entry in !names.contains { entry.hasPrefix($0) } } + own
    }

    private func verdict(
        of testCase: ConformanceCase, _ exit: ChildExit?, _ record: CaseRecord, _ output: [UInt8]
    ) -> Verdict {
        let running = record.running.map(\.name)
        let place =
            running.isEmpty
            ? "outside of the plugin's functions" : "in \(running.joined(separator: " and "))"
        let outputText =
            output.isEmpty ? [] : ["output: \(quoted(String(decoding: output.prefix(300), as: UTF8.self)))"]
        guard let exit else {
            return Verdict(
                .fail, ["the case did not end within \(ValueGrammar.text(limits.time)), \(place)"] + outputText)
        }
        guard let verdict = record.verdict else {
            switch exit {
            case .exited(let code):
                return Verdict(.fail, ["the process ended with exit code \(code) \(place)"] + outputText)
            case .signalled, .unknown:
                return Verdict(.fail, ["the process \(exit) \(place)"] + outputText)
            }
        }
        if !exit.isSuccess { return Verdict(.fail, ["the process \(exit) after the end of the case"] + outputText) }
        if testCase.name == ConformanceCase.silentName, verdict.outcome != .skip, !output.isEmpty {
            return Verdict(.fail, outputText)
        }
        return verdict
    }
}
