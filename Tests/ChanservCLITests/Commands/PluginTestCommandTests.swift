import Foundation
import TestSupport
import Testing

/// Tests `chanserv plugin test` with the sample plugins, which follow all rules, and with plugins that break one rule
/// each.
@Suite struct PluginTestCommandTests {
    /// The object that `--json` prints.
    private struct Run: Decodable {
        struct Case: Decodable {
            var name: String
            var outcome: String
            var seen: [String]
        }

        var cases: [Case]
        var passed: Int
        var warned: Int
        var failed: Int
        var skipped: Int

        func names(_ outcome: String) -> Set<String> { Set(cases.filter { $0.outcome == outcome }.map(\.name)) }

        func seen(_ name: String) -> String {
            cases.filter { $0.name == name }.flatMap(\.seen).joined(separator: "\n")
        }
    }

    private static func run(_ file: String, _ arguments: [String]) async throws -> (run: Run, code: Int32) {
        let exit = try await ChanservCommand.run(["plugin", "test", file, "--json"] + arguments)
        try #require(!exit.output.isEmpty, "\(file): \(exit.errors)")
        return (try JSONDecoder().decode(Run.self, from: exit.output), exit.code)
    }

    // MARK: - Plugins that follow the rules

    @Test(arguments: [
        ["libEcho.so", "--request", "hello", "--request", "", "--request", "--dashes"],
        ["libFiles.so", "--config={root: \(CompiledPlugin.includeFolder)}", "--request=*.h"],
        [
            "libFiles.so", "--config={root: \(CompiledPlugin.includeFolder), unit: chunks, chunk_size: 1KiB}",
            "--request=*",
        ],
        [
            "libFiles.so", "--config={root: \(CompiledPlugin.includeFolder), unit: chunks, chunk_size: 64KiB}",
            "--request=*",
        ],
        ["libLoad.so", "--request=3 50 300 text", "--request=2 4 2000 random 200", "--request=2 5 10000 random lend"],
        ["libTicker.so", "--request=3 2ms 4"],
        ["libExec.so", "--config={commands: {say: {run: [/bin/echo, hello]}}}", "--request=say"],
        ["libSQLite.so", "--config={database: FOLDER/empty.db}", "--request=SELECT 1, 'a'; SELECT 2"],
    ])
    func `the sample plugins pass all cases`(_ plugin: [String]) async throws {
        let folder = try TestFolder()
        // An empty file is a valid database without tables.
        try Data().write(to: URL(fileURLWithPath: folder.file("empty.db")))
        let arguments = plugin.dropFirst().map { $0.replacingOccurrences(of: "FOLDER", with: folder.path) }
        let (run, code) = try await Self.run(ChanservCommand.plugin(plugin[0]), arguments)
        #expect(run.names("fail") == [], "\(run.cases.filter { $0.outcome == "fail" })")
        #expect(code == 0)
        #expect(run.passed > 35)
        #expect(run.cases.first { $0.name == "requests" }?.outcome == "pass", "the requests must be ones it answers")
        #expect(run.passed + run.failed + run.skipped == run.cases.count)
    }

    @Test func `answers that depend on the deadline and the tags are not compared`() async throws {
        let (run, code) = try await Self.run(ChanservCommand.plugin("libWhoami.so"), ["--request", "hello"])
        #expect(run.names("fail") == [], "\(run.cases.filter { $0.outcome == "fail" })")
        #expect(code == 0)
        #expect(run.names("skip").isSuperset(of: ["tiny-sinks", "version-1.0"]))
        #expect(run.passed > 25)
        #expect(run.cases.first { $0.name == "inline" }?.outcome == "pass")
    }

    // Plugin authors copy the sample from the header, including its mistakes.
    @Test func `the sample plugin in the push header passes all cases`() async throws {
        let folder = try TestFolder()
        try CompiledPlugin.compile(CompiledPlugin.pushSample(), to: folder.file("lines.so"))
        let file = "\(CompiledPlugin.includeFolder)/chanserv_push.h"
        // The second request is refused, which must have a message.
        let (run, code) = try await Self.run(
            folder.file("lines.so"), ["--request", file, "--request", folder.file("none")])
        #expect(run.names("fail") == [], "\(run.cases.filter { $0.outcome == "fail" })")
        #expect(code == 0)
        #expect(run.cases.first { $0.name == "requests" }?.outcome == "pass", "the requests must be ones it answers")
    }

    // MARK: - Plugins that break a rule

    private static let pluginFolder: String = {
        var folder = URL(fileURLWithPath: #filePath)
        for _ in 0..<2 { folder.deleteLastPathComponent() }
        return folder.appendingPathComponent("Plugins").path
    }()

    private static func compile(_ name: String, in folder: TestFolder) throws -> String {
        let source = try String(contentsOfFile: "\(pluginFolder)/\(name).c", encoding: .utf8)
        try CompiledPlugin.compile(source, to: folder.file("\(name).so"), options: ["-I", pluginFolder])
        return folder.file("\(name).so")
    }

    /// A plugin in `Plugins`, the cases that it fails, and a part of the details of these cases.
    struct Broken: Sendable, CustomTestStringConvertible {
        var name: String
        var cases: Set<String>
        var says: String

        init(_ name: String, _ cases: String..., says: String) {
            self.name = name
            self.cases = Set(cases)
            self.says = says
        }

        var testDescription: String { name }
    }

    static let broken = [
        Broken("aborts_when_linked", "load", says: "SIGABRT (it called abort) in dlopen (its constructors)"),
        Broken("refuses_to_load", "load", says: "returned NULL"),
        Broken("wrong_magic", "descriptor", says: "CHANSERV_PLUGIN_MAGIC"),
        Broken("null_function", "descriptor", says: "close_source is NULL"),
        Broken("changes_descriptor", "constant", says: "bytes changed"),
        Broken("exports_more", "symbols", says: "helper"),
        Broken("one_instance", "many-instances", "generations", says: "there is one already"),
        Broken("create_not_reentrant", "instances-at-once", says: "SIGABRT (it called abort) in create"),
        Broken("shares_between_instances", "generations", says: "refused instead of accepted"),
        Broken("crashes_on_wrong_type", "wrong-types", "failing-getters", says: "SIGABRT"),
        Broken("crashes_on_large_request", "garbage", says: "SIGABRT (it called abort) in open"),
        Broken("exits", "garbage", says: "ended with exit code 3 in open"),
        Broken("hangs", "garbage", says: "in open"),
        Broken("reads_beyond_request", "request-size", says: "SIGSEGV"),
        Broken("keeps_request", "lifetimes", says: "SIGSEGV (invalid memory access or stack overflow) in close_call"),
        Broken("close_needs_poll", "open-and-close", says: "in close_call"),
        Broken("close_needs_end", "close-anywhere", says: "in close_source"),
        Broken("close_order", "close-late", says: "in close_source"),
        Broken("loses_sources", "tiny-sinks", says: "1 sources instead of 2"),
        Broken("waits_when_full", "full-sinks", says: "CHANSERV_PENDING although"),
        Broken("writes_beyond_reservation", "reservations", says: "behind a reservation"),
        Broken("changes_lent_frame", "lent-frames", "lent-refused", says: "was changed or freed before its release"),
        Broken("locks_while_lending", "lent-early", says: "poll_frames did not return"),
        Broken("loses_refused_lend", "tiny-sinks", "full-sinks", "lent-refused", says: "with lends that are refused"),
        Broken("lends_to_any_host", "version-1.0", says: "SIGSEGV (invalid memory access or stack overflow) in poll"),
        Broken("slow_inline", "inline", says: "poll_frames took"),
        Broken("blocking_inline", "descriptor", says: "both CHANSERV_PLUGIN_BLOCKING"),
        Broken("offers_for_ever", "too-large", says: "2,000 times"),
        Broken("cancel_source_needs_poll", "cancel-sources", says: "in cancel_source"),
        Broken("cancel_call_needs_poll", "cancel-calls", says: "in cancel_call"),
        Broken("cancel_once", "cancel-overlapping", says: "cancel_source"),
        Broken("cancel_does_not_wake", "cancel-wakes", says: "host->wake was not called"),
        Broken("polled_only_when_woken", "unasked-polls", says: "in poll_frames"),
        Broken("one_thread", "requests-at-once", "moving-threads", "parallel-sources", says: "another thread"),
        Broken("one_source_at_a_time", "parallel-sources", says: "poll_frames"),
        Broken("strange_status", "statuses", says: "poll_frames returned 7"),
        Broken("long_message", "error-messages", says: "beyond the 16 bytes"),
        Broken("wakes_unknown_handle", "host-calls", says: "42"),
        Broken("prints", "silence", says: "hello"),
        Broken("installs_handler", "process-state", says: "signal 10"),
        Broken("masks_signals", "process-state", says: "signal 12"),
        Broken("changes_folder", "process-state", says: "working directory"),
        Broken("fails_at_exit", "exit", says: "SIGABRT"),
        Broken("leaks_descriptors", "descriptors", says: "6 more descriptors"),
        Broken("leaks_threads", "threads", says: "more threads"),
        Broken("leaks_with_requests", "memory-of-requests", says: "bytes more are allocated"),
        Broken("leaks_with_instances", "memory-of-instances", says: "bytes more are allocated"),
        Broken("leaks_descriptors_when_left", "descriptors", says: "more descriptors"),
        Broken("leaks_when_left", "memory-of-requests", says: "bytes more are allocated"),
        Broken("leaks_when_refusing", "memory-of-requests", says: "bytes more are allocated"),
        Broken("leaks_when_create_fails", "memory-of-refusals", says: "bytes more are allocated"),
        Broken("leaks_with_unknown_options", "memory-of-refusals", says: "bytes more are allocated"),
    ]

    /// Cases that run with each broken plugin in addition to its own cases. They must pass.
    private static let others = [
        "load", "descriptor", "symbols", "create", "garbage", "close-anywhere", "full-sinks", "parallel-sources",
        "statuses",
    ]

    @Test(arguments: broken)
    func `a plugin that breaks a rule fails only the cases for it`(_ broken: Broken) async throws {
        let folder = try TestFolder()
        let cases = Set(Self.others).union(broken.cases).sorted()
        let (run, code) = try await Self.run(
            try Self.compile(broken.name, in: folder),
            ["--request=2 3", "--request=1 20", "--timeout", broken.name == "hangs" ? "2s" : "60s", "--only"] + cases)
        #expect(run.names("fail") == broken.cases, "\(run.cases)")
        #expect(code == 1)
        let seen = broken.cases.map { run.seen($0) }.joined(separator: "\n")
        #expect(seen.contains(broken.says), "\(seen)")
    }

    // A test of its own with few cases: with this plugin, every other case takes as long as its limits allow.
    @Test func `a missing wake fails the case pending-wakes`() async throws {
        let folder = try TestFolder()
        let (run, code) = try await Self.run(
            try Self.compile("does_not_wake", in: folder),
            ["--request=2 3", "--timeout=60s", "--only", "pending-wakes", "create", "cancel-wakes"])
        #expect(run.names("fail") == ["pending-wakes"])
        #expect(run.seen("pending-wakes").contains("host->wake was not called"))
        #expect(code == 1)
    }

    @Test(arguments: [("takes_any_option", "unknown-option", "host->config_only"), ("slow", "budget", "open took")])
    func `a case with a warning counts as passed`(_ name: String, _ warned: String, _ says: String) async throws {
        let folder = try TestFolder()
        let (run, code) = try await Self.run(
            try Self.compile(name, in: folder), ["--request=2 3", "--only", warned, "create", "statuses"])
        #expect(run.names("warn") == [warned])
        #expect(run.seen(warned).contains(says))
        #expect(code == 0)
        #expect(run.passed == 3 && run.warned == 1)
    }

    // The run does not wait for a process that a case has started and that keeps its output open.
    @Test func `a process that a plugin leaves behind does not delay the run`() async throws {
        let folder = try TestFolder()
        let source = try String(contentsOfFile: "\(Self.pluginFolder)/leaves_a_process.c", encoding: .utf8)
        try CompiledPlugin.compile(
            source, to: folder.file("p.so"),
            options: ["-I", Self.pluginFolder, "-DSTRAY=\"\(folder.file("stray"))\""])
        let (run, _) = try await Self.run(folder.file("p.so"), ["--request=2 3", "--only", "load"])
        let strays = try String(contentsOfFile: folder.file("stray"), encoding: .utf8).split(separator: "\n")
        #expect(run.names("pass") == ["load"])
        for stray in strays {
            #expect(kill(try #require(pid_t(stray)), SIGKILL) == 0, "it was waited for")
        }
        #expect(!strays.isEmpty)
    }

    @Test func `a conforming plugin passes all cases`() async throws {
        let folder = try TestFolder()
        let (run, code) = try await Self.run(
            try Self.compile("conforming", in: folder), ["--request=2 3", "--request=1 20"])
        #expect(run.names("pass").count == run.cases.count, "\(run.cases.filter { $0.outcome != "pass" })")
        #expect(code == 0)
    }

    // MARK: - The command

    @Test func `the table ends with the totals`() async throws {
        let file = ChanservCommand.plugin("Echo")
        let exit = try await ChanservCommand.run("plugin", "test", file, "--only", "load", "requests", "pending-wakes")
        #expect(exit.code == 0)
        #expect(exit.lines.last == "2 passed, 0 failed, 1 skipped")
        #expect(exit.lines.first?.hasPrefix("pass  load  ") == true)
        #expect(exit.text.contains("the empty request: 1 source, 1 frame, to their ends"))
    }

    @Test func `the run reports that the plugin refused all requests`() async throws {
        let file = ChanservCommand.plugin("Load")
        let exit = try await ChanservCommand.run(
            "plugin", "test", file, "--request", "nonsense", "--only", "requests", "tiny-sinks")
        #expect(exit.code == 0)
        #expect(exit.text.contains("on refusals only: give a request it can answer"))
        #expect(exit.text.contains("skip  tiny-sinks"))
    }

    @Test func `a file that is not a plugin ends the command with 65`() async throws {
        let folder = try TestFolder()
        try CompiledPlugin.compile("int answer(void) { return 42; }", to: folder.file("other.so"))
        try Data("text".utf8).write(to: URL(fileURLWithPath: folder.file("text.so")))
        chmod(folder.file("text.so"), 0o644)
        for (name, says) in [
            ("other.so", "does not export chanserv_plugin_v1"), ("text.so", "is not a shared library"),
            ("none.so", "No such file"),
        ] {
            let exit = try await ChanservCommand.run("plugin", "test", folder.file(name))
            #expect(exit.code == 65)
            #expect(exit.errors.contains(says))
            #expect(exit.text == "")
        }
    }

    @Test func `a wrong configuration is reported with its position`() async throws {
        let file = ChanservCommand.plugin("Echo")
        let broken = try await ChanservCommand.run("plugin", "test", file, "--config", "{a: 1, a: 2}")
        #expect(broken.code == 65)
        #expect(broken.errors.hasPrefix("--config:1:8: "))
        let missing = try await ChanservCommand.run("plugin", "test", file, "--config", "missing.yaml")
        #expect(missing.code == 65)
        #expect(missing.errors.hasPrefix("chanserv: missing.yaml: "))
    }

    @Test func `paths in a configuration file are relative to its folder`() async throws {
        let folder = try TestFolder()
        try FileManager.default.createDirectory(atPath: folder.file("root"), withIntermediateDirectories: false)
        try Data("root: root\n".utf8).write(to: URL(fileURLWithPath: folder.file("files.yaml")))
        try Data("one\ntwo\n".utf8).write(to: URL(fileURLWithPath: folder.file("root/a.txt")))
        let exit = try await ChanservCommand.run(
            "plugin", "test", ChanservCommand.plugin("Files"), "--config", folder.file("files.yaml"),
            "--request", "*.txt", "--only", "requests")
        #expect(exit.text.contains("request '*.txt': 1 source, 2 frames, to their ends"))
        #expect(exit.code == 0)
    }

    @Test func `an unknown case is a command line error`() async throws {
        let exit = try await ChanservCommand.run("plugin", "test", "x.so", "--only", "no-such-case")
        #expect(exit.code == 64)
        #expect(exit.errors.contains("there is no case 'no-such-case'"))
    }
}
