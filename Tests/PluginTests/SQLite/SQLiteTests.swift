import CChanservPlugin
import CSQLite
import Foundation
import Testing

/// Requests and their answers.
@Suite(.timeLimit(.minutes(2))) struct SQLiteTests {
    private func rows(_ sql: String, of database: SQLiteDatabase) throws -> [String] {
        try text(database.instance().sources(sql)[0].frames())
    }

    @Test func `each statement is a source with its columns and each row is a frame`() async throws {
        try await onThread {
            let database = try SQLiteDatabase(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(9)); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
            let sources = try database.instance().sources(
                "SELECT id, name, id + 1 FROM t ORDER BY id; -- a comment\n ;; SELECT count(*) AS \"the \"\"count\" FROM t"
            )
            #expect(
                text(sources.map(\.header)) == [
                    #"{"statement":0,"columns":[{"name":"id","type":"INTEGER"},{"name":"name","type":"VARCHAR(9)"},"#
                        + #"{"name":"id + 1","type":null}]}"#,
                    #"{"statement":1,"columns":[{"name":"the \"count","type":null}]}"#,
                ])
            #expect(try text(sources[0].frames()) == [#"[1,"a",2]"#, #"[2,"b",3]"#])
            #expect(try text(sources[1].frames()) == ["[2]"])
            #expect(try rows("SELECT * FROM t WHERE 0", of: database) == [])
            #expect(try rows("PRAGMA table_info(t)", of: database).count == 2)
            #expect(try rows("SELECT name FROM pragma_table_info('t')", of: database) == [#"["id"]"#, #"["name"]"#])
            #expect(try rows("SELECT value FROM json_each('[7,8]')", of: database) == ["[7]", "[8]"])
        }
    }

    @Test func `values are sent exactly`() async throws {
        try await onThread {
            let database = try SQLiteDatabase()
            for (sql, json) in [
                ("NULL", "null"), ("9223372036854775807", "9223372036854775807"), ("-9223372036854775808", nil),
                ("0.1", "0.1"), ("2.0", "2.0"), ("1e300", "1e+300"), ("0.1 + 0.2", "0.30000000000000004"),
                ("5e-324", "4.94065645841247e-324"), ("9e999", "9e999"), ("-9e999", "-9e999"), ("''", #""""#),
                (#"'a"\' || char(10, 9, 1, 127) || 'ä😀'"#, #""a\"\\\n\t\u0001\u007fä😀""#),
                ("x''", #"{"base64":""}"#), ("x'00ff10'", #"{"base64":"AP8Q"}"#), ("x'00'", #"{"base64":"AA=="}"#),
                ("CAST(x'61ff' AS TEXT)", #"{"text_base64":"Yf8="}"#),
                ("CAST(x'eda080' AS TEXT)", #"{"text_base64":"7aCA"}"#),
                ("CAST(x'6100' AS TEXT)", #""a\u0000""#),
            ] as [(String, String?)] {
                #expect(try rows("SELECT \(sql)", of: database) == ["[\(json ?? sql)]"], "\(sql)")
            }
            // Reals read back to nearly the same value.
            var generator = SystemRandomNumberGenerator()
            for _ in 0..<200 {
                let number = Double(bitPattern: generator.next())
                guard number.isFinite else { continue }
                let row = try #require(try rows("SELECT \(number.description)", of: database).first)
                let read = try #require(Double(row.dropFirst().dropLast()), "\(row)")
                // SQLite's own parser can be wrong in the last digit. The plugin must send the value that SQLite has.
                #expect(abs(read - number) <= number.ulp * 8)
            }
            let numbers = try rows("SELECT 3.0, 1e15, 123456789012345680.0", of: database)
            #expect(numbers == ["[3.0,1e+15,1.2345678901234568e+17]"])
        }
    }

    @Test func `the error message of a bad request has the position`() async throws {
        try await SQLiteDatabase.serving("CREATE TABLE t (a)", ["statements": .integer(2)]) { _, instance in
            for (sql, message) in [
                ("SELECT 1; SELCT 2", #"near "SELCT": syntax error (at byte 10)"#),
                ("SELECT * FROM nowhere", "no such table: nowhere"),
                ("SELECT a, b FROM t", "no such column: b (at byte 10)"),
                ("SELECT 'open", "unrecognized token"), ("SELECT (", "incomplete input"),
                ("", "there is no statement"), (" ; -- nothing\n", "there is no statement"),
                ("SELECT 1; SELECT 2; SELECT 3", "more than 2 statements (at byte 19)"),
                ("SELECT '\0'", "is not UTF-8 text (at byte 8)"),
                (String(repeating: " ", count: 1 << 20) + "SELECT 1", "larger than 1048576 bytes"),
            ] {
                let refusal = #expect(throws: Refusal.self) { try instance.open(sql) }
                #expect(refusal?.status == badRequest)
                #expect(refusal?.message.contains(message) == true, "\(refusal?.message ?? "accepted")")
            }
            #expect(throws: Refusal.self) { try instance.open([0x53, 0xFF]) }
        }
    }

    @Test(arguments: [
        ("INSERT INTO t VALUES (1)", "INSERT"), ("UPDATE t SET a = 1", "UPDATE"), ("DELETE FROM t", "DELETE"),
        ("CREATE TABLE u (a)", "a change of the schema is refused"),
        ("CREATE TEMP TABLE u (a)", "a change of the schema is refused"),
        ("DROP TABLE t", "a change of the schema is refused"),
        ("ATTACH ':memory:' AS x", "ATTACH"), ("VACUUM INTO '/tmp/x'", "refused"), ("BEGIN", "a transaction"),
        ("SAVEPOINT s", "a transaction"), ("PRAGMA query_only = 0", "this pragma"),
        ("PRAGMA journal_mode = WAL", "this pragma"), ("PRAGMA user_version = 5", "this pragma"),
        ("PRAGMA writable_schema = 1", "this pragma"), ("PRAGMA database_list", "this pragma"),
        ("PRAGMA temp_store_directory = '/tmp'", "this pragma"), ("SELECT load_extension('x')", "this function"),
        ("UPDATE sqlite_master SET sql = ''", "may not be modified"), ("REINDEX", "refused"), ("ANALYZE", "refused"),
        ("SELECT * FROM pragma_database_list", "this pragma"),
    ])
    func `statements that change anything are refused`(sql: String, reason: String) async throws {
        try await onThread {
            let database = try SQLiteDatabase("CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (7)")
            let before = try Data(contentsOf: URL(filePath: database.path))
            let instance = try database.instance()
            let refusal = #expect(throws: Refusal.self) {
                _ = try instance.sources(sql).map { try $0.frames() }
            }
            #expect(refusal?.status == badRequest)
            #expect(refusal?.message.contains(reason) == true, "\(refusal?.message ?? "accepted")")
            #expect(try Data(contentsOf: URL(filePath: database.path)) == before)
            #expect(try text(instance.sources("SELECT a FROM t")[0].frames()) == ["[7]"])
        }
    }

    @Test func `a wrong configuration is refused`() async throws {
        try await onThread {
            let database = try SQLiteDatabase("CREATE TABLE t (a)")
            try database.folder.write("text", String(repeating: "not a database", count: 100))
            try database.folder.folder("folder")
            for (configuration, message) in [
                (["database": .string(database.folder.file("none.db"))], "none.db: unable to open database file"),
                (["database": .string(database.folder.file("text"))], "text: file is not a database"),
                (["database": .string(database.folder.file("folder"))], "folder: "),
                (["statements": .integer(0)], "statements: 0 is not between 1 and 1000"),
                (["row_size": .size(1)], "row_size: 1 bytes are not between"),
                (["memory": .size(1)], "memory: 1 bytes are not between"),
                (["time_limit": .duration(nanoseconds: -1)], "time_limit is not between"),
                (["databse": .string("x")], "databse"),
            ] as [([String: ConfigurationValue], String)] {
                let refusal = #expect(throws: Refusal.self) { try database.instance(configuration) }
                #expect(refusal?.status == badRequest)
                #expect(refusal?.message.contains(message) == true, "\(refusal?.message ?? "accepted")")
            }
            let missing = #expect(throws: Refusal.self) { try Instance(descriptor(ofProduct: "SQLite"), [:]) }
            #expect(missing?.message.hasPrefix("database is missing") == true)
        }
    }

    @Test func `a WAL database in a read-only folder is refused with the reason`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.giveUpPrivileges()
            var handle: OpaquePointer?
            #expect(sqlite3_open(folder.file("wal.db"), &handle) == SQLITE_OK)
            let sql = "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (7)"
            #expect(sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK)
            sqlite3_close(handle)
            try folder.check(chmod(folder.path, 0o555))
            defer { chmod(folder.path, 0o755) }
            let configuration: [String: ConfigurationValue] = ["database": .string(folder.file("wal.db"))]
            let refusal = #expect(throws: Refusal.self) {
                try Instance(descriptor(ofProduct: "SQLite"), configuration)
            }
            #expect(refusal?.message.contains("the database is in WAL mode") == true, "\(refusal?.message ?? "served")")
            #expect(refusal?.message.contains("`immutable: true`") == true)
            let instance = try Instance(
                descriptor(ofProduct: "SQLite"), configuration.merging(["immutable": .boolean(true)]) { _, new in new })
            #expect(try text(instance.sources("SELECT a FROM t")[0].frames()) == ["[7]"])
        }
    }

    @Test func `an immutable database with any name is read without locks`() async throws {
        try await onThread {
            let database = try SQLiteDatabase("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
            try database.run("INSERT INTO t VALUES (7)")
            try database.run("PRAGMA wal_checkpoint(TRUNCATE)")
            let name = "odd %41?name#&=.db"
            try FileManager.default.copyItem(atPath: database.path, toPath: database.folder.file(name))
            let files = { try FileManager.default.contentsOfDirectory(atPath: database.folder.path).sorted() }
            let before = try files()
            let instance = try database.instance([
                "database": .string(database.folder.file(name)), "immutable": .boolean(true),
            ])
            #expect(try text(instance.sources("SELECT a FROM t")[0].frames()) == ["[7]"])
            // There is no -wal and no -shm file.
            #expect(try files() == before)
        }
    }

    @Test func `a row that is too large ends its source`() async throws {
        try await SQLiteDatabase.serving("", ["row_size": .size(2000)]) { _, instance in
            let (frames, last) = try instance.sources(
                "SELECT 1 UNION ALL SELECT hex(zeroblob(500)) UNION ALL SELECT hex(zeroblob(5000))")[0].collect()
            #expect(frames.map(\.count) == [3, 1004])
            #expect(last.status == badRequest)
            #expect(last.message == "a row is larger than row_size (2000 bytes)")
        }
    }

    @Test func `two generations can read while a writer continues`() async throws {
        try await onThread {
            let database = try SQLiteDatabase("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
            try database.run(
                """
                INSERT INTO t WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s WHERE x < 1000)
                SELECT x FROM s
                """)
            let old = try database.instance()
            let begun = try old.sources("SELECT a FROM t ORDER BY a")[0]
            #expect(try begun.texts(1) == ["[1]"])
            try database.run("DELETE FROM t WHERE a > 10")
            let new = try database.instance(["row_size": .size(4096)])
            #expect(try text(new.sources("SELECT count(*) FROM t")[0].frames()) == ["[10]"])
            // An older statement sees the older data.
            #expect(try begun.frames().count == 999)
            #expect(try text(old.sources("SELECT count(*) FROM t")[0].frames()) == ["[10]"])
        }
    }
}
