import ChanservHost
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

/// The file of the control socket. Several hosts may try to create it at the same time.
@Suite struct ControlSocketFileTests {
    private func withFolder(_ body: (TestFolder) async throws -> Void) async throws {
        try await body(TestFolder())
    }

    /// Runs `body` on a new thread, because it blocks.
    private func blocking<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: body()) }
        }
    }

    private func bind(_ path: String) async -> Result<ControlSocketFile, ControlSocketError> {
        await blocking {
            do throws(ControlSocketError) {
                return .success(try ControlSocketFile(binding: path))
            } catch {
                return .failure(error)
            }
        }
    }

    @Test(arguments: [false, true])
    func `one of many hosts that bind the same path at once succeeds`(leftOver: Bool) async throws {
        try await withFolder { folder in
            let path = folder.file("c.sock")
            if leftOver { close(try await bind(path).get().descriptor) }
            let results = await withTaskGroup(of: Result<ControlSocketFile, ControlSocketError>.self) { group in
                for _ in 0..<16 { group.addTask { await bind(path) } }
                return await group.reduce(into: []) { $0.append($1) }
            }
            let bound = results.compactMap { try? $0.get() }
            #expect(bound.count == 1)
            for case .failure(let error) in results {
                #expect(error.description.contains("another host listens there"))
            }
            let file = try #require(bound.first)
            try file.remove()
            #expect(access(path, F_OK) != 0)
            close(file.descriptor)
        }
    }

    @Test func `a host does not remove a socket that another host has created at its path`() async throws {
        try await withFolder { folder in
            let path = folder.file("c.sock")
            let first = try await bind(path).get()
            // As if another process had removed the socket as a left-over.
            try #require(unlink(path) == 0)
            let second = try await bind(path).get()
            try first.remove()
            #expect(access(path, F_OK) == 0)
            try second.remove()
            try second.remove()
            #expect(access(path, F_OK) != 0)
            close(first.descriptor)
            close(second.descriptor)
        }
    }

    @Test func `a missing folder is named in the error`() async throws {
        try await withFolder { folder in
            guard case .failure(let error) = await bind(folder.file("none/c.sock")) else {
                Issue.record("it was bound")
                return
            }
            #expect(error.description.hasPrefix("cannot create the control socket '"))
            #expect(error.description.hasSuffix(" does not exist: create it, or choose another path"))
        }
    }

    @Test func `a locked folder is an error and does not block`() async throws {
        try await withFolder { folder in
            let lock = open(folder.path, O_RDONLY | O_DIRECTORY)
            try #require(lock >= 0 && flock(lock, LOCK_EX) == 0)
            defer { close(lock) }
            guard case .failure(let error) = await bind(folder.file("c.sock")) else {
                Issue.record("it was bound")
                return
            }
            #expect(error.description.contains("its folder cannot be locked"))
        }
    }
}

@Suite struct ControlPeerTests {
    @Test func `only the user of the host and root may send commands`() {
        func may(_ user: UInt32, _ host: UInt32) -> Bool {
            PeerCredentials(pid: 1, uid: user, gid: 1).mayCommand(hostOf: host)
        }
        #expect(may(1000, 1000))
        #expect(may(0, 1000))
        #expect(!may(1001, 1000))
        #expect(!may(1000, 0))
    }
}
