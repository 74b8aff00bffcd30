import ChanservCLI
import Foundation
import NIOCore
import Testing

@Suite struct SaveFolderTests {
    @Test func `a source is saved under the path in its header`() throws {
        try withTemporaryFolder { root in
            let folder = try SaveFolder(path: root + "/new/deep")
            let path = try folder.create(header: #"{"path":"a/b/c.txt","size":6}"#, source: 0)
            try folder.append("one\n", to: path)
            try folder.append("two", to: path)
            try folder.complete(path)
            #expect(try contents(root + "/new/deep/a/b/c.txt") == "one\ntwo")
            #expect(path.description == "a/b/c.txt")
        }
    }

    @Test func `a file gets its final name when it is complete`() throws {
        try withTemporaryFolder { root in
            let folder = try SaveFolder(path: root)
            let path = try folder.create(header: #"{"path":"a"}"#, source: 0)
            try folder.append("half", to: path)
            #expect(!FileManager.default.fileExists(atPath: root + "/a"))
            #expect(try contents(root + "/a.partial") == "half")
            try folder.complete(path)
            #expect(!FileManager.default.fileExists(atPath: root + "/a.partial"))
        }
    }

    @Test func `a file of an earlier run is replaced`() throws {
        try withTemporaryFolder { root in
            for text in ["first, longer", "second"] {
                let folder = try SaveFolder(path: root)
                let path = try folder.create(header: #"{"path":"a"}"#, source: 0)
                try folder.append(ByteBuffer(string: text), to: path)
                try folder.complete(path)
                #expect(try contents(root + "/a") == text)
            }
        }
    }

    @Test(arguments: [
        "", "plain", "{", "[1]", #"{"name":"x"}"#, #"{"path":1}"#, #"{"path":""}"#, #"{"path":"/etc/x"}"#,
        #"{"path":"../x"}"#, #"{"path":"a/../x"}"#, #"{"path":"a/./x"}"#, #"{"path":"a//x"}"#, #"{"path":"a/"}"#,
        #"{"path":".."}"#, #"{"path":"a\u0000b"}"#,
    ]) func `a header without a safe path results in a numbered name`(header: String) {
        #expect(SavePath(header: ByteBuffer(string: header), source: 7).description == "source-7")
    }

    @Test func `paths that are too long are rejected`() {
        #expect(SavePath(untrusted: String(repeating: "x", count: 247)) != nil)
        #expect(SavePath(untrusted: String(repeating: "x", count: 248)) == nil)
        #expect(SavePath(untrusted: Array(repeating: "xx", count: 1_400).joined(separator: "/")) == nil)
    }

    @Test func `sources with the same name get different files`() throws {
        try withTemporaryFolder { root in
            let folder = try SaveFolder(path: root)
            let names = try (0..<3).map { try folder.create(header: #"{"path":"a"}"#, source: $0).description }
            #expect(names == ["a", "source-1", "source-2"])
            // The partial name of `a` is in use too, and so is a numbered name that a header requests.
            #expect(try folder.create(header: #"{"path":"a.partial"}"#, source: 3).description == "source-3")
            #expect(try folder.create(header: #"{"path":"source-5"}"#, source: 4).description == "source-5")
            #expect(try folder.create(header: "", source: 5).description == "source-5-1")
        }
    }

    @Test func `a symbolic link does not lead out of the folder`() throws {
        try withTemporaryFolder { root in
            let outside = root + "/outside"
            let inside = root + "/inside"
            for folder in [outside, inside] {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            }
            try FileManager.default.createSymbolicLink(atPath: inside + "/link", withDestinationPath: outside)
            try "kept".write(toFile: outside + "/file", atomically: true, encoding: .utf8)
            try FileManager.default.createSymbolicLink(
                atPath: inside + "/a.partial", withDestinationPath: outside + "/file")

            let folder = try SaveFolder(path: inside)
            #expect(throws: SystemError.self) { try folder.create(header: #"{"path":"link/x"}"#, source: 0) }
            // A link at the path of the file itself is replaced, not followed.
            let path = try folder.create(header: #"{"path":"a"}"#, source: 1)
            try folder.append("new", to: path)
            try folder.complete(path)
            #expect(try contents(inside + "/a") == "new")
            #expect(try contents(outside + "/file") == "kept")
            #expect(try FileManager.default.contentsOfDirectory(atPath: outside) == ["file"])
        }
    }

    @Test func `a folder that cannot be created is an error with its path`() throws {
        try withTemporaryFolder { root in
            try "".write(toFile: root + "/file", atomically: true, encoding: .utf8)
            let error = try #require(throws: SystemError.self) { try SaveFolder(path: root + "/file/x") }
            #expect(error.description.contains(root + "/file/x"))
            #expect(error.description.hasSuffix("Not a directory"))
        }
    }

    private func contents(_ path: String) throws -> String {
        try String(contentsOfFile: path, encoding: .utf8)
    }
}
