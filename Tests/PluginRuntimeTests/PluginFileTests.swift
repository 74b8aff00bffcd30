import Foundation
import HostConfiguration
import PluginRuntime
import Testing

@Suite("Plugin files")
struct PluginFileTests {
    private func library(in folder: TestFolder, _ name: String = "lib.so") throws -> String {
        try CompiledPlugin.compile(ELFLibraryTests.exporting, to: folder.file(name))
        return folder.file(name)
    }

    private func failure(_ path: String, pin: PluginDigest? = nil, maximumSize: Int = 1 << 30) -> PluginLoadError? {
        do {
            _ = try PluginFile(path: path, pin: pin, maximumSize: maximumSize)
            return nil
        } catch {
            #expect("\(error)".hasPrefix("\(path): "))
            return error
        }
    }

    @Test func `a library is read unchanged`() throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        let file = try PluginFile(path: path)
        #expect(file.bytes == Array(try Data(contentsOf: URL(fileURLWithPath: path))))
        #expect(try PluginFile(path: path, pin: file.digest).digest == file.digest)
    }

    @Test func `a missing file is reported as missing`() throws {
        let folder = try TestFolder()
        let error = try #require(failure(folder.file("none.so")))
        #expect(error.code == .unreadable)
        #expect(error.message == "cannot be opened: No such file or directory")
        #expect(failure(folder.file("none/none.so"))?.message.contains("its folder") == true)
        #expect(failure("")?.code == .notAFile)
        #expect(failure(folder.path + "/")?.code == .notAFile)
    }

    @Test func `a symbolic link is refused`() throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        try FileManager.default.createSymbolicLink(atPath: folder.file("link.so"), withDestinationPath: path)
        let error = try #require(failure(folder.file("link.so")))
        #expect(error.code == .symbolicLink)
        #expect(error.message.contains("readlink -f"))
    }

    @Test func `a pipe or a folder is refused without blocking`() throws {
        let folder = try TestFolder()
        mkfifo(folder.file("pipe"), 0o600)
        mkdir(folder.file("folder"), 0o700)
        #expect(failure(folder.file("pipe"))?.code == .notAFile)
        #expect(failure(folder.file("folder"))?.code == .notAFile)
    }

    @Test(arguments: [mode_t(0o775), 0o757, 0o777])
    func `a file that other users can write is refused`(mode: mode_t) throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        chmod(path, mode)
        let error = try #require(failure(path))
        #expect(error.code == .unsafePermissions)
        #expect(error.message.contains("chmod go-w '\(path)'"))
    }

    @Test(arguments: [mode_t(0o770), 0o702, 0o1777])
    func `a file in a folder that other users can write is refused`(mode: mode_t) throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        chmod(folder.path, mode)
        let error = try #require(failure(path))
        #expect(error.code == .unsafePermissions)
        #expect(error.message.contains(folder.path))
        chmod(folder.path, 0o700)
        #expect(failure(path) == nil)
    }

    @Test func `a file above the size limit is not read`() throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        let error = try #require(failure(path, maximumSize: 100))
        #expect(error.code == .tooLarge)
        #expect(error.message.contains("maximum for a plugin is 100"))
    }

    @Test func `a wrong pin is refused and both digests are reported`() throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        let digest = try PluginFile(path: path).digest
        let pin = try #require(PluginDigest(hex: String(repeating: "ab", count: 32)))
        let error = try #require(failure(path, pin: pin))
        #expect(error.code == .wrongDigest)
        #expect(error.message.contains("\(digest)"))
        #expect(error.message.contains("\(pin)"))
    }

    @Test func `a file that is no shared library is refused before it reaches the linker`() throws {
        let folder = try TestFolder()
        let path = try library(in: folder)
        let bytes = try PluginFile(path: path).bytes
        func message(_ change: (inout [UInt8]) -> Void) throws -> String {
            var changed = bytes
            change(&changed)
            try Data(changed).write(to: URL(fileURLWithPath: folder.file("changed.so")))
            chmod(folder.file("changed.so"), 0o755)
            return failure(folder.file("changed.so"))?.message ?? "accepted"
        }
        #expect(try message { _ in } == "accepted")
        #expect(try message { $0 = [] } == "is not a shared library: it is empty")
        #expect(try message { $0 = Array("#!/bin/sh\n".utf8) } == "is not a shared library: it is not an ELF file")
        #expect(try message { $0[4] = 1 }.hasPrefix("is not a shared library: it is not a 64-bit"))
        #expect(try message { $0[16] = 1 }.contains("object file"))
        #expect(try message { $0[18] = 243 }.contains("RISC-V"))
        // A truncated file is refused, unless it still has all bytes that are mapped.
        for size in stride(from: 1, to: bytes.count, by: 997) {
            let text = try message { $0.removeLast($0.count - size) }
            #expect(text != "accepted" || size > bytes.count / 2)
        }
        #expect(try message { $0.removeLast($0.count - 64) }.contains("ends before"))
        // Offsets whose sum overflows are outside of the file.
        #expect(try message { for index in 32..<40 { $0[index] = 0xFF } }.contains("ends before"))
    }

    @Test func `digests are parsed and printed in the form of sha256sum`() throws {
        let empty = PluginDigest(of: UnsafeRawBufferPointer(start: nil, count: 0))
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        #expect("\(empty)" == text)
        #expect(PluginDigest(hex: text) == empty)
        #expect(PluginDigest(hex: text.uppercased()) == empty)
        #expect(PluginDigest(hex: text.dropLast()) == nil)
        #expect(PluginDigest(hex: text.dropLast() + "g") == nil)
        #expect(PluginDigest(hex: "") == nil)
    }

    @Test func `only root, the user of the host and the user who ran sudo are trusted`() {
        let plain = PluginPermissions(user: 1000)
        #expect(plain.problem(with: "x", owner: 1000, mode: 0o755) == nil)
        #expect(plain.problem(with: "x", owner: 0, mode: 0o755) == nil)
        #expect(plain.problem(with: "x", owner: 1001, mode: 0o700)?.contains("chown 1000") == true)
        let sudo = PluginPermissions(user: 0, sudoUser: 1000)
        #expect(sudo.problem(with: "x", owner: 1000, mode: 0o755) == nil)
        #expect(sudo.problem(with: "x", owner: 1001, mode: 0o755) != nil)
        #expect(sudo.problem(with: "x", owner: 1000, mode: 0o775)?.contains("chmod go-w") == true)
        #expect(plain.problem(with: "/tmp", owner: 0, mode: 0o1777)?.contains("all users") == true)
    }
}
