import CChanservPlugin
import Testing

/// Limits of statements that are expensive without returning a row.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SQLiteLimitsTests {
    /// A statement in which each name uses the previous one twice.
    private static func doubled(_ depth: Int) -> String {
        let names = (1...depth).map {
            ", c\($0)(x) AS (SELECT a.x FROM c\($0 - 1) a UNION ALL SELECT b.x FROM c\($0 - 1) b)"
        }
        return "WITH c0(x) AS (SELECT 1)\(names.joined()) SELECT count(*) FROM c\(depth)"
    }

    @Test func `a statement that compiles to far more than its text is refused`() async throws {
        try await SQLiteDatabase.serving { _, instance in
            let refusal = #expect(throws: Refusal.self) { try instance.open(Self.doubled(20)) }
            #expect(refusal?.status == chanserv_status(CHANSERV_ERROR_BUSY))
            #expect(refusal?.message == "out of memory: SQLite has a limit of 67108864 bytes for all requests (memory)")
            #expect(SQLiteDatabase.highest < 65 << 20)
            // The failed statement holds no memory, and normal statements are served.
            let frames = try instance.sources(Self.doubled(6))[0].frames()
            #expect(text(frames) == ["[64]"])
        }
    }

    @Test func `expressions, compound selects and patterns are limited`() async throws {
        try await SQLiteDatabase.serving { _, instance in
            for sql in [
                "SELECT " + Array(repeating: "1", count: 300).joined(separator: " + "),
                "SELECT " + Array(repeating: "1", count: 1001).joined(separator: ", "),
                Array(repeating: "SELECT 1", count: 201).joined(separator: " UNION ALL "),
                "SELECT 'x' LIKE '\(String(repeating: "%x", count: 501))'",
            ] {
                let refusal = #expect(throws: Refusal.self) {
                    _ = try instance.sources(sql).map { try $0.frames() }
                }
                #expect(refusal?.status == badRequest, "\(refusal?.message ?? "accepted")")
            }
        }
    }

    @Test func `instr returns the same results as in SQLite`() async throws {
        let sql = """
            SELECT instr('abc', 'c'), instr('häuser', 'user'), instr('abc', 'x'), instr('abc', ''), instr('', ''),
            instr('', 'a'), instr(NULL, 'a'), instr('a', NULL), instr(x'c3a461', x'61'), instr('ä' || 'a', 'a'),
            instr(1234, 3), instr('aaab', 'aab'), instr(CAST(x'c3a4a461' AS TEXT), CAST(x'a461' AS TEXT)),
            instr(x'', x''), instr(x'', x'01')
            """
        try await SQLiteDatabase.serving { _, instance in
            let frames = try instance.sources(sql)[0].frames()
            #expect(text(frames) == ["[3,3,0,1,1,0,null,null,3,2,3,2,0,1,0]"])
        }
    }

    @Test func `the time limit applies within an expression of functions`() async throws {
        // The statement has no loop, so SQLite itself never checks whether to stop.
        let terms = (0..<20).map { "instr(s, substr(s, 1, \(500_000 - $0)) || 'b')" }.joined(separator: " + ")
        let sql = "WITH x(s) AS (SELECT replace(hex(zeroblob(250000)), '0', 'a')) SELECT \(terms) FROM x"
        try await SQLiteDatabase.serving("", ["time_limit": .duration(nanoseconds: 1)]) { _, instance in
            let refusal = #expect(throws: Refusal.self) {
                _ = try instance.sources(sql).map { try $0.frames() }
            }
            #expect(refusal?.message.contains("time limit") == true, "\(refusal?.message ?? "served")")
        }
        try await SQLiteDatabase.serving { _, instance in
            let frames = try instance.sources(sql)[0].frames()
            #expect(text(frames) == ["[0]"])
        }
    }
}
