import Foundation

/// Calls `body` with a new empty folder and removes it afterwards.
func withTemporaryFolder<T>(_ body: (String) async throws -> T) async throws -> T {
    let path = try makeTemporaryFolder()
    defer { removeTemporaryFolder(path) }
    return try await body(path)
}

func withTemporaryFolder<T>(_ body: (String) throws -> T) throws -> T {
    let path = try makeTemporaryFolder()
    defer { removeTemporaryFolder(path) }
    return try body(path)
}

private func makeTemporaryFolder() throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("chanserv-cli-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    return path
}

private func removeTemporaryFolder(_ path: String) {
    do {
        try FileManager.default.removeItem(atPath: path)
    } catch {
        fatalError("cannot remove the folder of a test: \(error)")
    }
}
