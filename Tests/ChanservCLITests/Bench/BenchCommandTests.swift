import Chanserv
import Foundation
import NIOCore
import TestSupport
import Testing

/// Runs `chanserv bench` as a process that starts its own host.
@Suite struct BenchCommandTests {
    private static let workloads = [
        ["connect", "--seconds", "0.1", "--callers", "2"],
        ["flood", "--sources", "40", "--frames", "50"],
        ["heavy", "--sources", "2", "--frames", "3"],
        ["mixed", "--seconds", "0.1", "--size", "64KiB"],
        ["idle", "--streams", "300"],
    ]

    private static let latencies = ["requests", "latency p50", "latency p99", "latency p99.9", "latency max"]
    private static let costs = [
        "seconds", "client processor", "client peak memory", "host processor", "host peak memory",
    ]
    private static let figures = [
        "connect": latencies,
        "flood": ["frames", "payload"],
        "heavy": ["frames", "payload"],
        "mixed": latencies.map { "alone " + $0 } + latencies.map { "beside " + $0 }
            + ["ratio p50", "ratio p99", "ratio p99.9", "heavy payload", "compressed payload"],
        "idle": ["client each", "host each", "opened"],
    ]

    @Test(arguments: workloads) func `the table has all figures of the workload`(workload: [String]) async throws {
        let exit = try await Bench.run(workload + ["--verify"])
        #expect(exit.errors == "")
        #expect(exit.code == 0)
        let lines = exit.lines
        try #require(lines.count > 2)
        #expect(lines[0].hasPrefix("\(workload[0]): "))
        #expect(lines[0].hasSuffix(", content of every frame verified"))
        #expect(lines[1].wholeMatch(of: #/FIGURE +VALUE  UNIT/#) != nil)
        let names = try lines.dropFirst(2).map { line in
            String(try #require(line.wholeMatch(of: #/(.+?)  +-?[0-9.,]+  \S+/#), "\(line)").output.1)
        }
        #expect(names == Self.figures[workload[0]]! + Self.costs)
    }

    @Test(arguments: workloads) func `JSON output is one object with all runs`(workload: [String]) async throws {
        let exit = try await Bench.run(workload + ["--json", "--runs", "2"])
        #expect(exit.errors == "")
        #expect(exit.code == 0)
        #expect(exit.lines.count == 1)
        let report = try JSONDecoder().decode(Report.self, from: exit.output)
        #expect(report.workload == workload[0])
        #expect(report.runs == 2)
        #expect(report.host == "own")
        #expect(!report.verified)
        let names = (Self.figures[workload[0]]! + Self.costs).map { $0.replacingOccurrences(of: " ", with: "_") }
        #expect(Set(report.figures.keys) == Set(names))
        for (name, figure) in report.figures {
            #expect(figure.values.count == 2)
            #expect(figure.min == figure.values.min() && figure.max == figure.values.max(), "\(name)")
            #expect(figure.min <= figure.median && figure.median <= figure.max, "\(name)")
        }
        #expect(report.figures["seconds"]!.min > 0)
    }

    @Test(arguments: workloads.dropLast(), [["--named"], ["--threaded"], ["--named", "--threaded"]])
    func `all workloads support --named and --threaded`(
        workload: [String], options: [String]
    ) async throws {
        let exit = try await Bench.run(workload + options + ["--json", "--verify"])
        #expect(exit.errors == "")
        #expect(exit.code == 0)
        let report = try JSONSerialization.jsonObject(with: exit.output) as? [String: Any]
        let parameters = try #require(report?["parameters"] as? [String: Any])
        #expect(parameters["named"] as? Bool == options.contains("--named"))
        #expect(parameters["threaded"] as? Bool == options.contains("--threaded"))
        #expect(parameters.count > 2)
    }

    @Test func `the summary names options that differ from the defaults`() async throws {
        let defaults = try await Bench.run(["connect", "--seconds", "0.1", "--callers", "1"])
        #expect(
            defaults.lines.first == "connect: 1 callers, one request with one empty frame after the other, for 0.100 s")
        let other = try await Bench.run(["connect", "--seconds", "0.1", "--callers", "1", "--named", "--threaded"])
        let suffix = " for 0.100 s, sources fetched by name, plugin called on plugin threads"
        #expect(other.lines.first?.hasSuffix(suffix) == true)
    }

    @Test(arguments: ["zero", "text", "random", "magic"], ["1", "18", "64", "1200000"])
    func `the frames of the Load plugin pass --verify`(kind: String, size: String) async throws {
        for compression in [[], ["--compression"]] {
            let flood = ["flood", "--sources", "3", "--frames", "5", "--kind", kind, "--size", size, "--verify"]
            let exit = try await Bench.run(flood + compression)
            #expect(exit.errors == "")
            #expect(exit.code == 0)
        }
    }

    @Test func `a benchmark leaves no process and no file behind`() async throws {
        try await withTemporaryFolder { folder in
            let exit = try await Bench.start(["heavy", "--sources", "1", "--frames", "1"], temporary: folder).exit()
            #expect(exit.code == 0)
            #expect(try Bench.hosts(of: folder).isEmpty)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
        }
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
    func `a signal stops the benchmark and its host`(signal: Int32) async throws {
        try await withTemporaryFolder { folder in
            let terminal = try PseudoTerminal()
            let process = try Bench.start(
                ["connect", "--seconds", "600"], temporary: folder, errors: terminal.device)
            defer { process.end() }
            #expect(try await terminal.read(until: "run 1 of 1  requests: ").contains("connect: "))
            #expect(try Bench.hosts(of: folder).count == 1)
            process.kill(signal)
            let exit = try await process.exit()
            #expect(exit.code == 130)
            #expect(exit.text == "")
            #expect(try Bench.hosts(of: folder).isEmpty)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
        }
    }

    @Test func `the progress line fits a terminal of 60 columns`() async throws {
        try await withTemporaryFolder { folder in
            let terminal = try PseudoTerminal(columns: 60)
            let process = try Bench.start(["connect", "--seconds", "600"], temporary: folder, errors: terminal.device)
            defer { process.end() }
            let shown = try await terminal.read(until: "run 1 of 1  requests: ")
            #expect(PseudoTerminal.lines(of: shown).filter { $0.count >= 60 } == [])
            process.kill(SIGINT)
            #expect(try await process.exit().code == 130)
        }
    }

    @Test func `the host exits when its benchmark is killed`() async throws {
        try await withTemporaryFolder { folder in
            let terminal = try PseudoTerminal()
            let process = try Bench.start(["connect", "--seconds", "600"], temporary: folder, errors: terminal.device)
            defer { process.end() }
            _ = try await terminal.read(until: "run 1 of 1  requests: ")
            let host = try #require(try Bench.hosts(of: folder).first)
            // The host is not a child of this process, so only a pidfd reports its exit.
            let descriptor = try Bench.descriptor(of: host)
            defer { close(descriptor) }
            process.kill(SIGKILL)
            var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            #expect(poll(&event, 1, 120_000) == 1)
        }
    }

    @Test func `the benchmark fails when its host is killed`() async throws {
        try await withTemporaryFolder { folder in
            let terminal = try PseudoTerminal()
            let process = try Bench.start(
                ["flood", "--sources", "1", "--frames", "4294967295"], temporary: folder, errors: terminal.device)
            defer { process.end() }
            _ = try await terminal.read(until: "run 1 of 1  requests: ")
            let host = try #require(try Bench.hosts(of: folder).first)
            #expect(kill(host, SIGKILL) == 0)
            #expect(try await process.exit().code == 1)
            #expect(try Bench.hosts(of: folder).isEmpty)
        }
    }

    @Test func `a run that exceeds --timeout fails`() async throws {
        let exit = try await Bench.run(["flood", "--sources", "1", "--frames", "4294967295", "--timeout", "50ms"])
        #expect(exit.errors == "chanserv: a run took longer than 50ms: increase --timeout\n")
        #expect(exit.text == "")
        #expect(exit.code == 1)
    }

    @Test func `a plugin that cannot be loaded ends the command with 65`() async throws {
        try await withTemporaryFolder { folder in
            let missing = try await Bench.run(["connect", "--plugin", folder + "/none.so"])
            #expect(missing.errors == "chanserv: cannot find '\(folder)/none.so': No such file or directory\n")
            #expect(missing.code == 65)
            // The path has characters that need escapes in YAML.
            let file = folder + "/no \"plugin\" \\ at: all.so"
            try "nothing".write(toFile: file, atomically: true, encoding: .utf8)
            let wrong = try await Bench.run(["connect", "--plugin", file])
            #expect(wrong.errors.hasPrefix("chanserv: the host did not start: "))
            #expect(wrong.errors.contains("no \"plugin\" \\ at: all.so"))
            #expect(wrong.code == 65)
        }
    }

    /// A plugin that answers the smallest request like the Load plugin, and logs a warning and an error with each
    /// request.
    private static let complaining = #"""
        #include "chanserv_plugin.h"

        #include <stdlib.h>

        struct chanserv_instance { const chanserv_host *host; };
        struct chanserv_call { chanserv_instance *instance; int listed; };
        struct chanserv_source { int sent; };

        static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
                                      chanserv_instance **instance, chanserv_error *error) {
            chanserv_status status = host->config_only(host, config, NULL, 0, error);
            if (status < 0) return status;
            *instance = calloc(1, sizeof **instance);
            (*instance)->host = host;
            return CHANSERV_READY;
        }
        static void destroy(chanserv_instance *instance) { free(instance); }
        static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request,
                                         chanserv_call **call, chanserv_error *error) {
            (void)request, (void)error;
            instance->host->log(instance->host, CHANSERV_LOG_WARNING, "too slow", 8);
            instance->host->log(instance->host, CHANSERV_LOG_ERROR, "broken", 6);
            *call = calloc(1, sizeof **call);
            return CHANSERV_READY;
        }
        static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
            (void)error;
            if (call->listed) return CHANSERV_END;
            chanserv_source *source = calloc(1, sizeof *source);
            if (sink->add(sink, "0", 1, source) != CHANSERV_READY) { free(source); return CHANSERV_READY; }
            call->listed = 1;
            return CHANSERV_END;
        }
        static void cancel_call(chanserv_call *call) { (void)call; }
        static void close_call(chanserv_call *call) { free(call); }
        static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
            (void)error;
            if (source->sent) return CHANSERV_END;
            if (sink->append(sink, "", 0) != CHANSERV_READY) return CHANSERV_READY;
            source->sent = 1;
            return CHANSERV_END;
        }
        static void cancel_source(chanserv_source *source) { (void)source; }
        static void close_source(chanserv_source *source) { free(source); }

        static const chanserv_plugin plugin = {
            CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin),
            0, "complaining", "1",
            create, destroy, open_call, poll_sources, cancel_call, close_call, poll_frames, cancel_source, close_source,
        };
        CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) { return &plugin; }
        """#

    @Test func `errors of the host are always shown, warnings only with --verbose`() async throws {
        let folder = try TestFolder()
        try CompiledPlugin.compile(Self.complaining, to: folder.file("complaining.so"))
        let connect = ["connect", "--seconds", "0.05", "--callers", "1", "--plugin", folder.file("complaining.so")]
        for (options, shown) in [([], ["error"]), (["--verbose"], ["error", "warning"])] {
            let exit = try await Bench.run(connect + options)
            #expect(exit.code == 0)
            let lines = exit.errors.split(separator: "\n")
            #expect(lines.allSatisfy { $0.hasPrefix("host: ") })
            #expect(Set(lines.map { $0.split(separator: " ").dropFirst(2).first ?? "" }) == Set(shown.map { $0[...] }))
        }
    }

    @Test(arguments: [
        ["connect", "--callers", "0"], ["connect", "--seconds", "0"], ["connect", "--runs", "0"],
        ["connect", "--timeout", "0"], ["connect", "--timeout", "1"], ["connect", "--vaddr", "x"],
        ["connect", "--join", "here"], ["connect", "--join", "127.0.0.1:0"],
        ["connect", "--join", "127.0.0.1:1", "--plugin", "x"], ["connect", "--join", "127.0.0.1:1", "--threaded"],
        ["connect", "--join", "127.0.0.1:1", "--verbose"],
        ["flood", "--sources", "0"],
        ["flood", "--size", "101MiB"],
        ["flood", "--kind", "wood"], ["heavy", "--frames", "4294967296"], ["idle", "--streams", "1000001"],
        ["heavy", "--join", "127.0.0.1:1", "--compression"], ["mixed", "--join", "127.0.0.1:1"],
        ["mixed", "--size", "0"], ["other"],
    ]) func `a wrong command line is an error that names the help page`(arguments: [String]) async throws {
        let exit = try await Bench.run(arguments)
        #expect(exit.code == 64)
        #expect(exit.errors.hasPrefix("chanserv: "))
        #expect(exit.errors.contains("\nsee 'chanserv bench"))
        #expect(exit.errors.hasSuffix(" --help'\n"))
    }
}

/// The object that `--json` prints.
private struct Report: Decodable {
    struct Figure: Decodable {
        var unit: String
        var min: Double
        var median: Double
        var max: Double
        var values: [Double]
    }

    var workload: String
    var verified: Bool
    var host: String
    var runs: Int
    var figures: [String: Figure]
}

/// Runs `chanserv bench` and finds the hosts that it starts.
enum Bench {
    static func run(_ arguments: [String]) async throws -> ChildProcess.Exit {
        try await ChanservCommand.run(["bench"] + arguments)
    }

    /// Starts the command with its own folder for temporary files. The folder identifies the host of this command.
    static func start(
        _ arguments: [String], temporary folder: String, errors: FileHandle? = nil
    ) throws -> ChildProcess {
        try ChildProcess(
            "/usr/bin/env", ["-S", "TMPDIR=\(folder)", ChanservCommand.buildFolder + "/chanserv", "bench"] + arguments,
            errors: errors)
    }

    /// Returns a pidfd, which becomes readable when the process has exited.
    static func descriptor(of id: pid_t) throws -> Int32 {
        // pidfd_open has the number 434 on all architectures. Older C libraries lack the function, and Swift does not
        // import `syscall`.
        let symbol = try #require(dlsym(nil, "syscall"))
        let call = unsafeBitCast(symbol, to: (@convention(c) (Int, Int, Int) -> Int).self)
        let descriptor = call(434, Int(id), 0)
        try #require(descriptor >= 0)
        return Int32(descriptor)
    }

    /// Returns the processes that serve a configuration in `folder`.
    static func hosts(of folder: String) throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { name in
            // A process that has exited in the meantime does not have this file.
            guard let id = pid_t(name), let line = FileManager.default.contents(atPath: "/proc/\(name)/cmdline"),
                case let words = line.split(separator: 0).map({ String(decoding: $0, as: UTF8.self) }),
                words.contains("serve"), words.contains(where: { $0.hasPrefix(folder + "/") })
            else { return nil }
            return id
        }
    }
}
