import CChanservPlugin
import Foundation
import Testing

/// Statements that take long, and large results.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SQLiteTimeTests {
    private static let endless = "WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s) SELECT x FROM s"

    @Test func `an endless result is read in bounded memory`() async throws {
        try await SQLiteDatabase.serving("", ["time_limit": .duration(nanoseconds: 0)]) { _, instance in
            let source = try instance.sources(Self.endless)[0]
            _ = try source.texts(1000)
            let before = SQLiteDatabase.memory
            #expect(try source.texts(200_000).last == "[201000]")
            #expect(SQLiteDatabase.memory - before < 1 << 20)
            source.cancel()
            #expect(source.poll().status == internalError)
        }
    }

    @Test func `a statement that finds no row ends when it is cancelled`() async throws {
        try await SQLiteDatabase.serving("", ["time_limit": .duration(nanoseconds: 0)]) { _, instance in
            let source = try instance.sources(Self.endless + " WHERE x < 0")[0]
            let group = DispatchGroup()
            let polled = DispatchSemaphore(value: 0)
            group.enter()
            let thread = Thread {
                polled.signal()
                let answer = source.poll()
                #expect(answer.status == internalError && answer.message == "cancelled")
                group.leave()
            }
            thread.start()
            polled.wait()
            // The cancellation may come before or during the poll. It must not be lost.
            source.cancel()
            #expect(group.wait(timeout: .now() + 60) == .success, "the poll did not return")
        }
    }

    @Test func `a cancellation before the poll takes effect`() async throws {
        try await SQLiteDatabase.serving { _, instance in
            let source = try instance.sources(Self.endless + " WHERE x < 0")[0]
            source.cancel()
            #expect(source.poll().status == internalError)
        }
    }

    @Test func `the time limit ends only the statement that exceeds it`() async throws {
        try await SQLiteDatabase.serving("", ["time_limit": .duration(nanoseconds: 200_000_000)]) { _, instance in
            let sources = try instance.sources(Self.endless + " WHERE x < 0; SELECT 1")
            let (frames, last) = try sources[0].collect()
            #expect(frames.isEmpty && last.status == badRequest)
            #expect(last.message == "interrupted: it took longer than the time limit of 0.2 seconds")
            #expect(try text(sources[1].frames()) == ["[1]"])
        }
    }

    @Test func `a row is sent before a slow row is computed`() async throws {
        try await SQLiteDatabase.serving("", ["time_limit": .duration(nanoseconds: 500_000_000)]) { _, instance in
            let slow = """
                SELECT (WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s WHERE x < 300000)
                SELECT max(x + n.value) FROM s) FROM (SELECT 1 AS value UNION ALL SELECT 2) AS n
                """
            let source = try instance.sources(slow)[0]
            let first = source.poll()
            #expect(first.status == ready && first.items.count == 1)
        }
    }

    @Test func `statements run in parallel on several threads`() async throws {
        try await SQLiteDatabase.serving { _, instance in
            let count = 8
            let request = (0..<count).map { "\(Self.endless) LIMIT 5000 OFFSET \($0)" }.joined(separator: ";")
            let sources = try instance.sources(request)
            DispatchQueue.concurrentPerform(iterations: count) { index in
                do {
                    let frames = try text(sources[index].frames(Room(bytes: 500)))
                    #expect(frames == (1...5000).map { "[\($0 + index)]" })
                } catch {
                    Issue.record(error)
                }
            }
        }
    }

    @Test func `a statement waits for a writer until the time limit`() async throws {
        try await onThread {
            let database = try SQLiteDatabase("CREATE TABLE t (a)")
            let instance = try database.instance(["time_limit": .duration(nanoseconds: 300_000_000)])
            try database.run("BEGIN EXCLUSIVE")
            let refusal = #expect(throws: Refusal.self) {
                _ = try instance.sources("SELECT * FROM t").map { try $0.frames() }
            }
            #expect(refusal?.message.contains("time limit") == true, "\(refusal?.message ?? "served")")
            try database.run("COMMIT")
            #expect(try instance.sources("SELECT * FROM t")[0].frames().isEmpty)
        }
    }

    @Test func `a client that stops reading does not keep the database locked`() async throws {
        try await onThread {
            let database = try SQLiteDatabase("CREATE TABLE t (a)")
            try database.run("BEGIN")
            for number in 0..<1000 { try database.run("INSERT INTO t VALUES (\(number))") }
            try database.run("COMMIT")
            let instance = try database.instance(["idle_limit": .duration(nanoseconds: 300_000_000)])
            let stalled = try instance.sources("SELECT a FROM t")[0]
            let reading = try instance.sources("SELECT a FROM t")[0]
            #expect(text(stalled.poll(.one).items) == ["[0]"])
            #expect(throws: Failure.self) { try database.run("DELETE FROM t WHERE a > 2000") }
            // A client that reads slowly goes on.
            for number in 0..<10 {
                #expect(text(reading.poll(.one).items) == ["[\(number)]"])
                usleep(100_000)
            }
            try stalled.wakeSignal.wait()
            let answer = stalled.poll()
            #expect(answer.status == badRequest && answer.items.isEmpty)
            #expect(answer.message.hasPrefix("ended: the client took no row for 0.3 seconds (idle_limit)"))
            #expect(try reading.frames().count == 990)
            try database.run("DELETE FROM t WHERE a > 2000")
            // A source that has not begun holds no lock.
            #expect(try stalled.collect().last.status == badRequest)
        }
    }

    @Test func `without idle_limit a client may stop reading`() async throws {
        try await SQLiteDatabase.serving(
            "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)", ["idle_limit": .duration(nanoseconds: 0)]
        ) { _, instance in
            let source = try instance.sources("SELECT a FROM t")[0]
            #expect(text(source.poll(.one).items) == ["[1]"])
            usleep(300_000)
            #expect(try text(source.frames()) == ["[2]"])
        }
    }
}
