import CChanservPlugin
import Foundation
import TestSupport
import Testing

/// Tests of chanserv_push.h with a plugin that blocks.
@Suite(.timeLimit(.minutes(2))) struct PushTests {
    /// Compiled once. It is never unloaded, like all plugins.
    private static let folder = Result {
        let folder = try TestFolder()
        try CompiledPlugin.compile(pushSource, to: folder.file("push.so"))
        return folder
    }

    private func instance(_ configuration: [String: Int64] = [:]) throws -> Instance {
        let library = URL(fileURLWithPath: try Self.folder.get().file("push.so"))
        return try Instance(descriptor(of: library), configuration.mapValues { .integer($0) })
    }

    /// Returns the number of threads of the instance with this tag.
    private func threads(_ tag: Int) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count { task in
            guard let name = FileManager.default.contents(atPath: "/proc/self/task/\(task)/comm") else { return false }
            return String(decoding: name, as: UTF8.self) == "push-\(tag)\n"
        }
    }

    private func numbers(_ range: Range<Int>) -> [String] { range.map { "\($0)" } }

    @Test func `frames arrive in order with any size of sink`() async throws {
        try await onThread {
            let instance = try instance(["frames": 7])
            for room in [Room(), .one, Room(bytes: 20)] {
                let source = try #require(try instance.sources("frames 1000 0").first)
                #expect(text([source.header]) == ["frames 1000 0"])
                #expect(try text(source.frames(room)) == numbers(0..<1000))
            }
            #expect(try instance.sources("frames 0 0")[0].frames().isEmpty)
            #expect(try instance.sources("sources 0 0").isEmpty)
        }
    }

    @Test(arguments: [false, true]) func `lent frames arrive in order and are released once with any size of sink`(
        isVersion10: Bool
    ) async throws {
        try await onThread {
            let instance = try instance(["frames": 7])
            for (size, count) in [(10, 30), (20_000, 30)] {
                let expected = (0..<count).map { [UInt8](repeating: UInt8(97 + $0 % 26), count: size) }
                for room in [Room(isVersion10: isVersion10), Room(frames: 3, isVersion10: isVersion10)] {
                    #expect(
                        try #require(instance.sources("lendlisted \(count) \(size)").first).frames(room) == expected)
                }
            }
            instance.releaseLent()
            try instance.host.wait { $0.filter { $0.hasPrefix("released") }.count == 120 }
        }
    }

    @Test func `lent frames that are not taken are released when their source is closed`() async throws {
        try await onThread {
            let instance = try instance(["frames": 7])
            let call = try instance.open("lend 7 20000")
            let (sources, last) = try call.collect()
            #expect(last.status == end)
            // The list ends when the function has returned. All seven frames are queued then.
            #expect(sources.count == 1)
            #expect(!instance.host.log.contains("released 1"))
            withExtendedLifetime(sources) {}
        }
        try await onThread {
            let instance = try instance(["frames": 7])
            do { _ = try instance.sources("lend 7 20000") }
            try instance.host.wait { $0.filter { $0 == "released 1" }.count == 7 }
        }
    }

    @Test func `copied frames of 8 KiB and more are lent and smaller ones are not`() async throws {
        try await onThread {
            let instance = try instance(["frames": 7])
            for (size, isLent) in [(8_191, false), (8_192, true)] {
                let source = try instance.sources("frames 1 \(size)")[0]
                var answer = source.poll()
                while answer.items.isEmpty {
                    try source.wakeSignal.wait()
                    answer = source.poll()
                }
                #expect(answer.items.map(\.count) == [size])
                #expect(answer.lent == (isLent ? 1 : 0))
            }
        }
    }

    @Test func `a request has the context of the client, which a host of version 1.0 does not provide`()
        async throws
    {
        try await onThread {
            let instance = try instance()
            func answer(_ context: Context?) throws -> String {
                let source = try #require(try instance.open("context", context).collect().sources.first)
                return try text(source.frames())[0]
            }
            let full = Context(
                deadline: 5, meta: "m", bucket: "b", traceparent: "t", peerAddress: "1.2.3.4:5", identity: "i")
            #expect(try answer(full) == "m b t '1.2.3.4:5' 'i' some")
            #expect(try answer(Context()) == "none none none '' '' none")
            #expect(try answer(nil) == "none none none '' '' none")
        }
    }

    @Test func `a slow client blocks the pushing thread`() async throws {
        try await onThread {
            let instance = try instance(["frames": 4])
            let source = try instance.open("slow 60 8").nextSource()
            // The limit is the queue plus the frames that the host took before.
            for taken in 1...59 {
                _ = try source.texts(1)
                #expect(instance.host.log.count { $0.hasPrefix("pushed") } <= taken + 8)
            }
            #expect(try source.frames().count == 1)
        }
    }

    @Test func `the queue is limited in bytes and a larger frame is queued alone`() async throws {
        try await onThread {
            let instance = try instance(["bytes": 1000])
            let source = try instance.open("slow 20 600").nextSource()
            for taken in 1...19 {
                let frame = try source.texts(1)
                #expect(frame[0].utf8.count == 600)
                #expect(instance.host.log.count { $0.hasPrefix("pushed") } <= taken + 2)
            }
            let large = try instance.open("large 3 5000").nextSource()
            #expect(try large.frames(.one).map(\.count) == [5000, 5000, 5000])
            #expect(instance.host.log.contains("too large \(CHANSERV_ERROR_TOO_LARGE)"))
        }
    }

    @Test func `a waiting push fails when its source is cancelled`() async throws {
        try await onThread {
            let instance = try instance(["frames": 4])
            let call = try instance.open("slow -1 0")
            let source = try call.nextSource()
            // The fifth frame waits because the source is not polled.
            _ = try instance.host.waitForLine { $0 == "pushed 4" }
            source.cancel()
            _ = try instance.host.waitForLine { $0 == "left -100" }
            #expect(source.poll().status == internalError)
        }
    }

    @Test func `closing a source ends only its own pushes`() async throws {
        try await onThread {
            let instance = try instance(["frames": 4])
            var source: Stream? = try instance.open("slow -1 0").nextSource()
            let other = try instance.open("frames 100 0").nextSource()
            _ = try instance.host.waitForLine { $0 == "pushed 4" }
            withExtendedLifetime(source) {}
            source = nil
            _ = try instance.host.waitForLine { $0 == "left -100" }
            #expect(try text(other.frames(.one)) == numbers(0..<100))
        }
    }

    @Test func `cancelling calls the function that ends another wait of the plugin`() async throws {
        try await onThread {
            let instance = try instance()
            let source = try instance.open("block").nextSource()
            _ = try instance.host.waitForLine { $0 == "blocking 0" }
            #expect(source.poll().status == pending)
            source.cancel()
            try source.wakeSignal.wait()
            _ = try instance.host.waitForLine { $0 == "source cancelled 1" }

            let call = try instance.open("callblock")
            _ = try instance.host.waitForLine { $0.hasPrefix("blocking") }
            #expect(call.poll().status == pending)
            call.cancel()
            try call.wakeSignal.wait()
            _ = try instance.host.waitForLine { $0 == "call cancelled 1" }
            _ = try instance.host.waitForLine { $0 == "left -100" }
            #expect(call.poll().status == internalError)
            // Closing has the same effect as cancelling.
            let other = try self.instance()
            _ = try other.open("callblock")
            _ = try other.host.waitForLine { $0 == "call cancelled 1" }
        }
    }

    @Test(arguments: ["sources", "threads"]) func `many concurrent sources arrive complete`(command: String)
        async throws
    {
        try await onThread {
            let instance = try instance(["frames": 3, "sources": 5])
            let call = try instance.open("\(command) 60 40")
            // Each source is read on its own thread when it is announced.
            let group = DispatchGroup()
            let results = Collected()
            let last = try call.each(limit: 2) { source in
                Thread.starting(in: group) {
                    results.append(text([source.header])[0], Result { try text(source.frames(Room(bytes: 9))) })
                }
            }
            #expect(last.status == end)
            group.wait()
            #expect(results.all.count == 60)
            for index in 0..<60 { #expect(try results.all["\(index)"]?.get() == numbers(0..<40)) }
        }
    }

    @Test func `sources that the host does not take block the plugin`() async throws {
        try await onThread {
            let instance = try instance(["sources": 3])
            let call = try instance.open("sources 10 0")
            for taken in 1...10 {
                _ = try call.nextSource()
                #expect(instance.host.log.count { $0.hasPrefix("added") } <= taken + 3)
            }
        }
    }

    @Test func `the threads of sources are limited`() async throws {
        try await onThread {
            let instance = try instance(["threads": 2, "frames": 1])
            let call = try instance.open("threads 5 100")
            let two = [try call.nextSource(), try call.nextSource()]
            #expect(call.poll().status == pending, "the third waits for one of them to end")
            #expect(try text(two[0].frames()) == numbers(0..<100))
            let third = try call.nextSource()
            #expect(try text(third.frames()) == numbers(0..<100))
            #expect(try text(two[1].frames()) == numbers(0..<100))
        }
    }

    @Test func `an error ends its source or its request`() async throws {
        try await onThread {
            let instance = try instance()
            let (none, refused) = try instance.open("refuse").collect()
            #expect(none.isEmpty && refused.status == badRequest && refused.message == "refused by the test")

            let (late, call) = try instance.open("late").collect()
            #expect(call.status == chanserv_status(CHANSERV_ERROR_BUSY) && call.message == "too late")
            let (frames, source) = try late[0].collect()
            #expect(text(frames) == numbers(0..<3), "what was pushed comes before the error")
            #expect(source.status == chanserv_status(CHANSERV_ERROR_BUSY) && source.message == "too late")

            let (both, fine) = try instance.open("fail").collect()
            #expect(fine.status == end)
            let bad = try both[0].collect().last
            #expect(bad.status == notFound && bad.message == "this one is bad")
            #expect(try text(both[1].frames()) == ["0", "1"])

            let (threads, whole) = try instance.open("threads 2 13").collect()
            #expect(whole.status == end)
            let last = try threads[1].collect().last
            #expect(last.status == chanserv_status(CHANSERV_ERROR_BUSY) && last.message == "thirteen is bad luck")
        }
    }

    @Test func `a completed list ends while its sources go on`() async throws {
        try await onThread {
            let instance = try instance()
            let (sources, last) = try instance.open("listed").collect()
            #expect(last.status == end)
            _ = try instance.host.waitForLine { $0 == "late source \(CHANSERV_ERROR_BAD_REQUEST)" }
            #expect(try sources[0].texts(1000).count == 1000)
        }
    }

    @Test func `a request beyond the limit of threads is refused as busy`() async throws {
        try await onThread {
            let instance = try instance(["threads": 2])
            let calls = [try instance.open("slow -1 0"), try instance.open("slow -1 0")]
            let refusal = #expect(throws: Refusal.self) { try instance.open("frames 1 1") }
            #expect(refusal?.message == "the plugin has reached its limit of requests with a thread")
            withExtendedLifetime(calls) {}
        }
    }

    @Test func `a request counts until the last thread of its sources has ended`() async throws {
        try await onThread {
            let instance = try instance(["threads": 2, "source_threads": 16, "frames": 1, "tag": 78])
            var calls: [Call] = []
            for number in 1...2 {
                calls.append(try instance.open("threads 16 -1"))
                // The function has returned. Its sources go on because they are not read.
                try instance.host.wait { log in log.count { $0 == "left 0" } == number }
                try until { try threads(78) == number * 16 }
            }
            for _ in 0..<10 { #expect(throws: Refusal.self) { try instance.open("threads 16 -1") } }
            #expect(try threads(78) == 32)
            calls.removeFirst()
            // The threads end shortly after the close.
            try until { (try? instance.open("frames 0 0")) != nil }
            withExtendedLifetime(calls) {}
        }
    }

    /// Waits until a condition is true.
    private func until(_ condition: () throws -> Bool) throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while try !condition() {
            guard ContinuousClock.now < deadline else { throw Failure("the condition did not become true") }
            sched_yield()
        }
    }

    @Test func `a push to a source that was not taken fails when the request is cancelled`() async throws {
        try await onThread {
            let instance = try instance(["frames": 4])
            let call = try instance.open("slow -1 0")
            _ = try instance.host.waitForLine { $0 == "pushed 4" }
            call.cancel()
            _ = try instance.host.waitForLine { $0 == "left -100" }
            #expect(call.poll().items.isEmpty)

            // Also if the cancellation comes while the host refuses the source.
            let other = try self.instance(["frames": 4])
            let refused = try other.open("slow -1 0")
            _ = try other.host.waitForLine { $0 == "pushed 4" }
            #expect(refused.poll(limit: 0, whenFull: { refused.cancel() }).items.isEmpty)
            _ = try other.host.waitForLine { $0 == "left -100" }
            #expect(refused.poll().status == internalError)
        }
    }

    @Test func `threads receive signals of faults and no others`() async throws {
        try await onThread {
            var before = sigset_t()
            var after = sigset_t()
            pthread_sigmask(SIG_BLOCK, nil, &before)
            let instance = try instance()
            _ = try instance.sources("mask")
            _ = try instance.host.waitForLine { $0 == "faults blocked 0" }
            _ = try instance.host.waitForLine { $0 == "ends blocked 2" }
            pthread_sigmask(SIG_BLOCK, nil, &after)
            #expect((1...64).allSatisfy { sigismember(&before, $0) == sigismember(&after, $0) })
        }
    }

    @Test func `no thread is left after the instance was destroyed`() async throws {
        try await onThread {
            var instance: Instance? = try instance(["frames": 2, "tag": 77])
            var calls: [Call] = []
            var sources: [Stream] = []
            for command in ["slow -1 0", "frames -1 0", "threads 4 -1", "block", "sources 3 0"] {
                let call = try #require(instance).open(command)
                calls.append(call)
                sources.append(try call.nextSource())
            }
            #expect(try threads(77) >= 4)
            // The instance is destroyed with its last reference, while its threads are running.
            instance = nil
            sources = []
            calls = []
            #expect(try threads(77) == 0)
        }
    }
}

extension Call {
    /// Waits for one source.
    fileprivate func nextSource() throws -> Stream {
        while true {
            let answer = poll(limit: 1)
            if let source = answer.items.first { return source }
            if answer.status == pending {
                try wakeSignal.wait()
            } else if answer.status != ready {
                throw Refusal(status: answer.status, message: answer.message)
            }
        }
    }

    /// Passes each source to the body when it is announced.
    fileprivate func each(limit: Int, _ body: (Stream) -> Void) throws -> Answer<Stream> {
        while true {
            let answer = poll(limit: limit)
            answer.items.forEach(body)
            if answer.status == pending {
                try wakeSignal.wait()
            } else if answer.status != ready {
                return answer
            }
        }
    }
}

extension Thread {
    fileprivate static func starting(in group: DispatchGroup, _ body: @escaping @Sendable () -> Void) {
        group.enter()
        Thread {
            body()
            group.leave()
        }.start()
    }
}

/// The results of several threads.
private final class Collected: @unchecked Sendable {
    // Sendable: the dictionary is protected by the lock.
    private let lock = NSLock()
    private var results: [String: Result<[String], any Error>] = [:]

    func append(_ key: String, _ result: Result<[String], any Error>) { lock.withLock { results[key] = result } }
    var all: [String: Result<[String], any Error>] { lock.withLock { results } }
}
