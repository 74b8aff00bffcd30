import CSQLite
import Foundation

/// A database in a temporary folder, created with SQLite itself.
final class SQLiteDatabase {
    let folder: Folder
    let path: String
    private let handle: OpaquePointer

    init(_ sql: String = "") throws {
        folder = try Folder()
        path = folder.file("test.db")
        var handle: OpaquePointer?
        guard sqlite3_open(path, &handle) == SQLITE_OK, let handle else { throw Failure("sqlite3_open") }
        self.handle = handle
        try run(sql)
    }

    deinit { sqlite3_close(handle) }

    func run(_ sql: String) throws {
        guard sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK else {
            throw Failure("\(String(cString: sqlite3_errmsg(handle))): \(sql)")
        }
    }

    func instance(_ configuration: [String: ConfigurationValue] = [:]) throws -> Instance {
        try Instance(
            descriptor(ofProduct: "SQLite"),
            configuration.merging(["database": .string(path)]) { given, _ in given })
    }

    /// Runs the body of a test with a database and an instance that serves it, on its own thread.
    static func serving(
        _ sql: String = "", _ configuration: [String: ConfigurationValue] = [:],
        _ body: @escaping @Sendable (SQLiteDatabase, Instance) throws -> Void
    ) async throws {
        try await onThread {
            let database = try SQLiteDatabase(sql)
            try body(database, database.instance(configuration))
            // The database must outlive the statements that read it, because its deinit removes the file.
            withExtendedLifetime(database) {}
        }
    }

    /// The memory that SQLite has allocated in this process. It includes the plugin's connections, which use the same
    /// library.
    static var memory: Int64 { sqlite3_memory_used() }
    /// The maximum of ``memory``.
    static var highest: Int64 { sqlite3_memory_highwater(0) }
}
