import CChanservPlugin
import Testing

/// What a statement may cost that is compiled and computed without a row.
@Suite(.serialized, .timeLimit(.minutes(2))) struct SQLiteLimitsTests {
    /// Each name stands for twice the one before.
    private static func doubled(_ depth: Int) -> String {
        let names = (1...depth).map {
            ", c\($0)(x) AS (SELECT a.x FROM c\($0 - 1) a UNION ALL SELECT b.x FROM c\($0 - 1) b)"
        }
        return "WITH c0(x) AS (SELECT 1)\(names.joined()) SELECT count(*) FROM c\(depth)"
    }

    @Test func aStatementThatIsCompiledToFarMoreThanItsTextIsRefused() async throws {
        try await SQLiteDatabase.serving { _, instance in
            let refusal = #expect(throws: Refusal.self) { try instance.open(Self.doubled(20)) }
            #expect(refusal?.status == chanserv_status(CHANSERV_ERROR_BUSY))
            #expect(refusal?.message == "no memory: SQLite may use 67108864 bytes (memory) for all requests")
            #expect(SQLiteDatabase.highest < 65 << 20)
            // It holds nothing, and what people write is served.
            let frames = try instance.sources(Self.doubled(6))[0].frames()
            #expect(text(frames) == ["[64]"])
        }
    }

    @Test func expressionsCompoundsAndPatternsAreBounded() async throws {
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
}
