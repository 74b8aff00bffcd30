import Chanserv
import HostConfiguration
import NIOCore
import PluginRuntime
import Testing

@Suite("Plugin instances", .timeLimit(.minutes(1)))
struct PluginInstanceTests {
    // MARK: create, destroy and the host table

    @Test func `create gets the configuration`() async throws {
        let host = try ProbeHost()
        let yaml = """
            text: hello
            integer: -7
            number: 1.5
            boolean: true
            duration: 250ms
            size: 64KiB
            list: [1, 2, 3]
            path: data
            """
        let instance = try await host.instance(yaml: yaml)
        let report = try #require(try await instance.texts("report").first)
        let json = try PluginConfiguration(yaml: yaml).json
        #expect(report == "hello|-7|1.5|1|250000000|65536|3|/data|\(json)")
    }

    @Test func `absent keys leave the defaults of the plugin`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("report") == ["unset|-1|-1|-1|-1|0|0|unset|{}"])
    }

    private func refusal(_ yaml: String) async throws -> PluginError? {
        let host = try ProbeHost()
        do {
            _ = try await host.instance(yaml: yaml)
            return nil
        } catch let error as PluginError {
            return error
        }
    }

    @Test func `a configuration that the plugin refuses is reported with the location`() async throws {
        let wrongType = try #require(try await refusal("text: x\ninteger: much"))
        #expect(wrongType.code == .badRequest)
        #expect(wrongType.message.hasPrefix("config:2:10: "))
        let misspelt = try #require(try await refusal("txet: x"))
        #expect(misspelt.code == .badRequest)
        #expect(misspelt.message.contains("did you mean 'text'"))
    }

    @Test func `a failed create reports the message of the plugin`() async throws {
        let error = try await refusal("fail: no disk")
        #expect(error == PluginError(.busy, "told to fail: no disk"))
    }

    @Test func `log lines of a plugin have its name and level`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(host.log.lines.contains("warning [probe] created"))
        #expect(await instance.retireNow() == .destroyed)
        #expect(host.log.lines.contains("error [probe] destroyed"))
    }

    @Test func `several instances of one library are independent`() async throws {
        let host = try ProbeHost()
        let path = try host.compile()
        let first = try await host.instance(of: path, yaml: "text: first")
        let second = try await host.instance(of: path, yaml: "text: second")
        #expect(first.library === second.library)
        #expect(await first.retireNow() == .destroyed)
        #expect(try await second.texts("report").first?.hasPrefix("second|") == true)
        #expect(try await second.probeCounts()["destroys"] == 1)
    }

    // MARK: open and sources

    @Test func `a failed open reports the message of the plugin and opens no call`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        for (code, expected) in [(-1, PluginError.Code.badRequest), (-2, .notFound), (-3, .busy), (-4, .internal)] {
            let error = try await instance.failure(of: "refuse \(code)")
            #expect(error == PluginError(expected, "refused probe from there:2"))
            #expect(error?.countsAsFailure == (code < -2))
        }
        // Unknown codes, and codes that `open` must not return.
        for status in [-99, 1, 2, 7] {
            let error = try await instance.failure(of: "refuse \(status)")
            #expect(error?.code == .internal)
        }
        #expect(instance.statistics.calls == 0)
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func `a request is open until the plugin has closed all of it`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        var sources = try await instance.open("frames 100000").makeAsyncIterator()
        let source = try #require(try await sources.next())
        let end = try await sources.next()
        #expect(end == nil)
        #expect(instance.openRequests == 1)
        #expect(try await source.drain().count == 100_000)
        await instance.idle()
        _ = try await instance.failure(of: "refuse -1")
        await instance.idle()
        let counts = try await instance.probeCounts()
        #expect(counts["closes"] == 1 && counts["source_closes"] == 1)
    }

    @Test func `an empty request and an answer without sources are valid`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("") == [])
        var iterator = try await instance.open("nothing").makeAsyncIterator()
        let source = try await iterator.next()
        #expect(source == nil)
    }

    @Test func `more sources than a sink takes arrive in order`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        var headers: [String] = []
        for try await source in try await instance.open("sources 1000") {
            headers.append(String(buffer: source.header))
            let frames = try await source.drain().map { String(buffer: $0) }
            #expect(frames == ["frame of \(headers.count - 1)"])
        }
        #expect(headers == (0..<1000).map { "source \($0)" })
        let counts = try await instance.probeCounts()
        #expect(counts["violations"] == 0)
        #expect(instance.statistics.sources == 1001)
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func `an error of the listing arrives after its sources`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        var iterator = try await instance.open("failsources -3").makeAsyncIterator()
        let first = try #require(try await iterator.next())
        let error = await #expect(throws: PluginError.self) { _ = try await iterator.next() }
        #expect(error == PluginError(.busy, "no more sources"))
        // The source continues although its listing has failed.
        #expect(try await first.drain() == [])
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func `sources that the client does not take are closed`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        do {
            var iterator = try await instance.open("sources 100").makeAsyncIterator()
            _ = try await iterator.next()
            _ = try await instance.open("sources 100")
        }
        #expect(await instance.retireNow() == .destroyed)
        await instance.idle()
        let other = try await host.instance(of: host.folder.file("probe.so"))
        let counts = try await other.probeCounts()
        // The second request may have ended before it was polled.
        #expect(instance.statistics.sources >= 100)
        #expect(counts["source_closes"] == instance.statistics.sources)
        #expect(counts["opens"] == counts["closes"]! + 1)
        #expect(counts["violations"] == 0)
    }

    // MARK: frames

    @Test(arguments: [1, 64, 65_536])
    func `frames arrive in order with any batch size`(target: Int) async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let expected = (0..<5000).map { "\($0)" }
        #expect(try await instance.texts("frames 5000", target: target) == expected)
        #expect(try await instance.texts("onebyone 500", target: target) == (0..<500).map { "\($0)" })
        #expect(instance.statistics.frames == 5500)
        #expect(
            instance.statistics.bytes == expected.joined().utf8.count + (0..<500).map { "\($0)" }.joined().utf8.count)
    }

    private func pattern(_ size: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { bytes in
            for index in 0..<size { bytes[index] = UInt8(truncatingIfNeeded: (index &* 31) >> 3) }
            return size
        }
        return buffer
    }

    @Test(arguments: [0, 1, 65_535, 65_536, 65_537, 50 << 20, 100 << 20])
    func `a frame of any size arrives whole`(size: Int) async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let expected = pattern(size)
        #expect(try await instance.frames("blob \(size)") == [expected])
    }

    @Test(arguments: [0, 1, 5, 4096, 1_000_000, 50 << 20])
    func `a reservation that grows keeps the bytes written before`(size: Int) async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.frames("reserve \(size)") == [pattern(size)])
    }

    @Test func `a large frame after a small one is taken by the next poll`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let frames = try await instance.frames("behind 1000000")
        #expect(frames.map(\.readableBytes) == [5, 1_000_000])
        #expect(try await instance.probeCounts()["stops"] == 1)
    }

    @Test func `a reservation that is not committed is dropped`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("uncommitted") == ["first", "second"])
        #expect(try await instance.texts("uncommitted", target: 1) == ["first", "second"])
    }

    @Test func `a frame above the size limit is refused`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("toolarge") == ["refused"])
        #expect(try await instance.texts("overcommit") == ["refused"])
        let error = await #expect(throws: PluginError.self) { _ = try await instance.frames("blob \(100 << 20 + 1)") }
        #expect(error?.code == .internal)
    }

    @Test func `an error arrives after the frames of its poll`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        for (status, code) in [
            (-1, PluginError.Code.badRequest), (-2, .notFound), (-3, .busy), (-4, .internal), (-77, .internal),
        ] {
            let source = try await instance.source("status \(status)")
            #expect(try await source.text() == "before")
            let error = await #expect(throws: PluginError.self) { _ = try await source.next() }
            #expect(error == PluginError(code, "told to answer \(status)"))
        }
    }

    @Test func `an undocumented return code is an internal error`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        for status in [3, 4, 1000] {
            let error = await #expect(throws: PluginError.self) { _ = try await instance.frames("status \(status)") }
            #expect(error?.code == .internal)
            #expect(error?.message.contains("\(status)") == true)
        }
    }

    @Test func `a plugin that returns READY without frames is polled more slowly and logged`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("spin 20") == [])
        #expect(instance.statistics.emptyPolls == 20)
        #expect(host.log.count(of: "answers CHANSERV_READY without adding anything") == 1)
    }

    @Test func `a call beyond the call budget is logged and counted`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance(callBudget: .zero)
        #expect(try await instance.texts("frames 1") == ["0"])
        #expect(instance.statistics.overstays >= 3)
        #expect(host.log.count(of: "plugin probe: poll_frames took") >= 1)
    }

    @Test func `a call that does not return is reported while it hangs and counted once`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance(callBudget: .milliseconds(500))
        let source = try await instance.source("hang")
        let task = Task { try await source.drain() }
        await host.log.wait(for: "plugin probe: poll_frames has not returned for")
        _ = try await instance.texts("release")
        #expect(try await task.value == [])
        #expect(host.log.count(of: "has not returned") == 1)
        #expect(host.log.count(of: "plugin probe: poll_frames took") == 1)
        #expect(instance.statistics.overstays == 1)
    }
}
