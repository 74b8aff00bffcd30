import ChanservHost
import Glibc
import HostConfiguration
import Logging
import NIOCore
import PluginRuntime
import Testing

/// Messages between a host and its workers, and the back-off of restarts. No test starts a process.
@Suite struct WorkerValueTests {
    @Test func `a worker finds the process id of its host in its command line`() {
        let arguments = WorkerMain.arguments(plugin: "--help").dropFirst()
        #expect(WorkerMain.host(in: Array(arguments)) == getpid())
        #expect(WorkerMain.host(in: Array(arguments.dropLast())) == nil)
        #expect(WorkerMain.host(in: ["worker", "--help"]) == nil)
        #expect(WorkerMain.host(in: ["serve", "p", "--host", "1"]) == nil)
        #expect(WorkerMain.host(in: ["worker", "p", "--host", "x"]) == nil)
    }

    @Test func `a decoded configuration has its values and locations`() throws {
        let configuration = try PluginConfiguration(
            yaml: "a: 5\nb: '5'\nc: [1, {d: true}]\ne:\nf: 1.5\n", file: "p.yaml", folder: "/etc")
        let library = try ExaminedLibrary(PluginFile.testing([1, 2, 3]))
        let sent = WorkerAssignment(
            .serve, of: library, plugin: "p", configurations: [configuration], threads: 3, options: IsolationOptions(),
            logLevel: "info")
        let received = try WorkerAssignment(decoding: try sent.encoded())
        let arrived = try #require(received.configurations.first)
        #expect(arrived == configuration)
        #expect(arrived.json == configuration.json)
        #expect(try arrived.string(at: "b") == "5")
        #expect(try arrived.integer(at: "a") == 5)
        #expect(throws: ConfigurationError.self) { try arrived.integer(at: "b") }
        do {
            _ = try arrived.integer(at: "c.1.d")
        } catch {
            #expect(error.location.description == "p.yaml:3:12")
        }
        #expect(received.threads == 3)
        #expect(received.allowsInline)
        #expect(received.callBudget == 1_000_000_000)
    }

    @Test(arguments: [true, false])
    func `an assignment says whether the instance may be called inline`(inline: Bool) throws {
        let sent = WorkerAssignment(
            .serve, of: try ExaminedLibrary(PluginFile.testing([1])), plugin: "p",
            configurations: [try PluginConfiguration(yaml: "")], threads: 16, allowsInline: inline,
            options: IsolationOptions(), logLevel: "info")
        #expect(try WorkerAssignment(decoding: try sent.encoded()).allowsInline == inline)
    }

    @Test(arguments: ["", "body", String(repeating: "x", count: 100_000)])
    func `a decoded request is equal to the encoded one`(body: String) throws {
        let sent = RequestEnvelope(vAddr: "logs", remoteAddress: "abc:1", body: ByteBuffer(string: body))
        var buffer = ByteBuffer()
        sent.write(into: &buffer)
        #expect(RequestEnvelope(reading: buffer) == sent)
    }

    @Test func `invalid bytes are not decoded as a request`() {
        for bytes in [[], [0], [0, 5, 1], [0, 1, 65, 0], [0xFF, 0xFF]] as [[UInt8]] {
            #expect(RequestEnvelope(reading: ByteBuffer(bytes: bytes)) == nil)
        }
    }

    @Test(arguments: [PluginError.Code.badRequest, .notFound, .busy, .internal, .withdrawn, .crashed])
    func `a decoded plugin error has its code and message`(code: PluginError.Code) {
        let error = PluginError(code, "why not: é")
        #expect(ErrorEnvelope.error(from: ErrorEnvelope.text(of: error)) == error)
    }

    @Test func `a text without an error code becomes an internal error`() {
        #expect(ErrorEnvelope.error(from: "").code == .internal)
        #expect(ErrorEnvelope.error(from: "Xyz") == PluginError(.internal, "Xyz"))
        #expect(ErrorEnvelope.error(from: ErrorEnvelope.text(of: CancellationError())).code == .internal)
    }

    @Test func `a worker is given up after four checks in a row without a report`() {
        var watch = HeartbeatMonitor()
        var reports = 1
        for _ in 0..<10 {
            for look in 1...HeartbeatMonitor.missedLimit {
                let isOver = watch.look(reports: reports)
                #expect(!isOver, "look \(look) after report \(reports)")
            }
            reports += 1
        }
        for look in 0...HeartbeatMonitor.missedLimit {
            let isOver = watch.look(reports: reports)
            #expect(isOver == (look == HeartbeatMonitor.missedLimit))
        }
    }

    @Test func `statistics of workers add up without overflow or negative counts`() {
        var total = PluginStatistics.zero
        total.bytes = 3
        var forged = PluginStatistics.zero
        forged.frames = .max
        forged.bytes = .min
        for _ in 0..<2 { total += forged }
        #expect(total.frames == .max)
        #expect(total.bytes == 3)
    }

    @Test func `a text of a worker is made printable and shortened`() {
        #expect(WorkerLine.brief("a\u{1B}[31m\nb") == "a\u{FFFD}[31m\u{FFFD}b")
        let long = WorkerLine.brief(String(repeating: "é", count: 100_000))
        #expect(long.hasSuffix("…") && long.utf8.count < 1_100)
    }

    @Test func `the last output of a worker is its fatal error or its last line`() {
        var words = LastOutput()
        #expect("\(words)" == "")
        for line in ["first", "", "<3>second"] { words.printed(Array(line.utf8)[...]) }
        #expect("\(words)" == "; its last output: second")
        for line in ["x.swift:3: Fatal error: no", "18 in main"] { words.printed(Array(line.utf8)[...]) }
        #expect("\(words)" == "; its last output: x.swift:3: Fatal error: no")
        words.hasStarted()
        words.printed(Array("third".utf8)[...])
        #expect("\(words)" == "")
    }

    @Test func `reports and commands are encoded as one line each`() {
        let reports: [WorkerReport] = [
            .ready(name: "n", version: "1\n2"), .refused("x\ny"), .doing("its create"), .fine,
            .statistics(.zero, unfinished: 3), .ending("why"), .retired(isDestroyed: true),
        ]
        for report in reports {
            let line = WorkerLine.encode(report)
            #expect(line.last == UInt8(ascii: "\n") && !line.dropLast().contains(UInt8(ascii: "\n")))
            #expect(WorkerLine.decode(line.dropLast(), as: WorkerReport.self) == report)
        }
        let commands: [WorkerCommand] = [.offer(name: "n", compression: true, batchSize: 5), .retire]
        for command in commands {
            #expect(WorkerLine.decode(WorkerLine.encode(command).dropLast(), as: WorkerCommand.self) == command)
        }
        #expect(WorkerLine.decode(Array("garbage".utf8), as: WorkerReport.self) == nil)
    }

    @Test(arguments: [
        ("<3>broken", Logger.Level.error, "broken"), ("<4>hm", .warning, "hm"), ("<7>", .debug, ""),
        ("<0>x", .critical, "x"), ("<8>x", .info, "<8>x"), ("plain", .info, "plain"), ("<3", .info, "<3"),
        ("", .info, ""),
    ])
    func `a line of output can begin with its log level`(line: String, level: Logger.Level, text: String) {
        let (found, rest) = WorkerOutput.level(of: Array(line.utf8)[...])
        #expect(found == level)
        #expect(String(decoding: rest, as: UTF8.self) == text)
    }

    // MARK: Restart back-off

    @Test func `restart pauses grow up to the longest pause`() {
        var backoff = RestartBackoff()
        let pauses = (0..<20).map { _ in backoff.ended(after: .zero, chance: 1) }
        #expect(pauses[0] == .milliseconds(100) && pauses[1] == .milliseconds(200) && pauses[2] == .milliseconds(400))
        #expect(zip(pauses, pauses.dropFirst()).allSatisfy { $0 <= $1 })
        #expect(pauses.last == RestartBackoff.longestPause)
    }

    @Test func `jitter shortens a restart pause by at most half`() {
        var (least, most) = (RestartBackoff(), RestartBackoff())
        for _ in 0..<10 {
            #expect(least.ended(after: .zero, chance: 0) * 2 == most.ended(after: .zero, chance: 1))
        }
    }

    @Test func `a worker that ran for the recovery time restarts with the first pause`() {
        var backoff = RestartBackoff()
        for _ in 0..<8 { _ = backoff.ended(after: .seconds(9), chance: 1) }
        #expect(backoff.ended(after: RestartBackoff.recovery, chance: 1) == RestartBackoff.firstPause)
    }
}

extension PluginFile {
    /// A plugin file with these bytes, as if it had been read from disk.
    fileprivate static func testing(_ bytes: [UInt8]) -> PluginFile {
        PluginFile(path: "/tmp/libTesting.so", bytes: bytes, digest: bytes.withUnsafeBytes { PluginDigest(of: $0) })
    }
}
