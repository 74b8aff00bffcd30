import CChanservPlugin
import Foundation
import Testing

@Suite struct FilesGlobTests {
    static let tree = [
        "a.log", "b.log", "b.txt", "ä.log", ".hidden.log", "d/a.log", "d/e/c.log", "d/e/f/deep.log", ".h/x.log",
        "d-e.log", "[x].log", "back\\slash.log",
    ]

    @Test(arguments: [
        ("a.log", ["a.log"]),
        ("./a.log", ["a.log"]),
        ("d//a.log", ["d/a.log"]),
        ("*.log", ["[x].log", "a.log", "b.log", "back\\slash.log", "d-e.log", "ä.log"]),
        ("?.log", ["a.log", "b.log", "ä.log"]),
        ("[ab].log", ["a.log", "b.log"]),
        ("[!a-c].log", ["ä.log"]),
        ("[^a-c].log", ["ä.log"]),
        ("[ä-ü].log", ["ä.log"]),
        ("[]x].log", []),
        ("\\[x\\].log", ["[x].log"]),
        ("[[]x[]].log", ["[x].log"]),
        ("back\\\\slash.log", ["back\\slash.log"]),
        (".*.log", [".hidden.log"]),
        ("\\.*.log", [".hidden.log"]),
        ("*/*.log", ["d/a.log"]),
        (".h/*", [".h/x.log"]),
        ("**/c.log", ["d/e/c.log"]),
        ("**/*.txt", ["b.txt"]),
        ("d/**", ["d/a.log", "d/e/c.log", "d/e/f/deep.log"]),
        ("d/**/**/*.log", ["d/a.log", "d/e/c.log", "d/e/f/deep.log"]),
        ("d/**/f/**/*.log", ["d/e/f/deep.log"]),
        ("d*", ["d-e.log"]),
        ("d", []),
        ("nothing*", []),
        ("nothing", []),
        ("a.log/x", []),
        ("*b.txt\n?.txt\nb.txt\nb.txt", ["b.txt"]),
        ("b.log\r\n\r\na.log\n", ["a.log", "b.log"]),
        ("d/e/c.log\nd/a.log\na.log", ["a.log", "d/a.log", "d/e/c.log"]),
        (String(repeating: "*a", count: 500), []),
    ])
    func `a pattern matches the expected files`(pattern: String, expected: [String]) async throws {
        try await onThread {
            let folder = try Folder()
            for path in Self.tree { try folder.write(path) }
            let found = try paths(folder.instance().sources(pattern))
            #expect(found == expected)
        }
    }

    @Test func `two stars match all files that are not hidden`() async throws {
        try await onThread {
            let folder = try Folder()
            for path in Self.tree { try folder.write(path) }
            let found = try paths(folder.instance().sources("**"))
            let expected = Self.tree.filter { !$0.hasPrefix(".") }
            #expect(Set(found) == Set(expected))
            #expect(found.count == expected.count)
        }
    }

    /// Backtracking over many stars does not take exponential time.
    @Test func `a pattern with many stars is matched in bounded time`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write(String(repeating: "a", count: 250))
            let found = try folder.instance().sources(String(repeating: "*a", count: 100) + "*b")
            #expect(found.isEmpty)
        }
    }

    @Test(arguments: [
        "", "\n\n", "/etc/passwd", "../x", "a/../b", "a/..", "\\.\\./x", "d/", ".", "[a", "[", "a[!", "x\\", "[z-a]",
        "[[:alpha:]]", "a\0b", String(repeating: "x/", count: 129) + "x", String(repeating: "x", count: 5000),
        String(repeating: "x\n", count: 1025), String(repeating: "x", count: 70000),
        // Searching for the end of each set from each brace would take a minute.
        String(repeating: "{", count: 64) + String(repeating: "[", count: 4000),
    ])
    func `a malformed request is refused`(request: String) async throws {
        try await onThread {
            let folder = try Folder()
            let instance = try folder.instance()
            let refusal = try #require(throws: Refusal.self) { try instance.open(request) }
            #expect(refusal.status == badRequest)
            #expect(!refusal.message.isEmpty)
        }
    }

    @Test func `the error message names the line`() async throws {
        try await onThread {
            let folder = try Folder()
            let instance = try folder.instance()
            let refusal = try #require(throws: Refusal.self) { try instance.open("fine\n\n[a") }
            #expect(refusal.message == "line 3: the pattern [a has a [ without a closing ]")
        }
    }

    @Test func `names that are not UTF-8 are matched and sent`() async throws {
        try await onThread {
            let folder = try Folder()
            let name: [UInt8] = Array("a\"\\\n".utf8) + [0xFF, 0x01] + Array("é".utf8)
            let path = (Array((folder.path + "/").utf8) + name).map { CChar(bitPattern: $0) } + [0]
            let descriptor = open(path, O_CREAT | O_WRONLY, 0o644)
            try #require(descriptor >= 0)
            close(descriptor)
            let sources = try folder.instance().sources("a???*")
            let header = try FileHeader(#require(sources.first))
            #expect(header.path == "a\"\\\n\u{FFFD}\u{01}é")
            #expect(header.path_base64.flatMap { Data(base64Encoded: $0) } == Data(name))
            #expect(try sources[0].frames() == [])
        }
    }

    @Test func `headers contain size and modification time`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("a.txt", "12345")
            var times = [timespec(tv_sec: 0, tv_nsec: 0), timespec(tv_sec: 1_738_327_096, tv_nsec: 1_002_003)]
            try folder.check(utimensat(AT_FDCWD, folder.file("a.txt"), &times, 0))
            let source = try #require(folder.instance().sources("a.txt").first)
            #expect(
                String(decoding: source.header, as: UTF8.self)
                    == #"{"path":"a.txt","size":5,"mtime":"2025-01-31T12:38:16.001002003Z"}"#)
        }
    }

    @Test func `only regular files are served`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("file")
            try folder.folder("folder")
            try folder.check(mkfifo(folder.file("fifo"), 0o644))
            #expect(try paths(folder.instance().sources("*\nfifo\nfolder")) == ["file"])
        }
    }

    @Test func `ten thousand files are served in batches with few descriptors`() async throws {
        try await onThread {
            let folder = try Folder()
            for number in 0..<10_000 { try folder.write("f\(number)", "\(number)\nlast") }
            let instance = try folder.instance(["open_files": .integer(16)])
            let call = try instance.open("f*")
            var sources: [Stream] = []
            var answer = call.poll(limit: 7)
            while answer.status == ready {
                // One poll does not walk through everything.
                #expect(answer.items.count <= 7)
                sources += answer.items
                // The root, and the folder while it is listed.
                #expect(try folder.descriptors() <= 2)
                answer = call.poll(limit: 7)
            }
            #expect(answer.status == end)
            sources += answer.items
            #expect(try paths(sources) == (0..<10_000).map { "f\($0)" }.sorted())

            // Reads the first half of all files, then the second half of all.
            for source in sources { #expect(source.poll(.one).status == ready) }
            #expect(try folder.descriptors() == 1 + 16)
            for source in sources { #expect(try text(source.frames(.one)) == ["last"]) }
            #expect(try folder.descriptors() == 1)
        }
    }

    @Test func `a call can be cancelled and closed at any point`() async throws {
        try await onThread {
            let folder = try Folder()
            for path in Self.tree { try folder.write(path) }
            let instance = try folder.instance()
            for polls in 0..<10 {
                let call = try instance.open("**")
                for _ in 0..<polls { _ = call.poll(limit: 1) }
                call.cancel()
                call.cancel()
                if polls < 8 { #expect(call.poll().status == internalError) }
            }
        }
    }
}
