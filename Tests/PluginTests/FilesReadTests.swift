import CChanservPlugin
import Foundation
import Testing

@Suite struct FilesReadTests {
    static let long = String(repeating: "x", count: 200_000)

    @Test(arguments: [
        ("", [], []),
        ("\n", ["\n"], [""]),
        ("a\nb\n", ["a\n", "b\n"], ["a", "b"]),
        ("a\nno ending", ["a\n", "no ending"], ["a", "no ending"]),
        ("a\r\n\r\nb\rc\n\r", ["a\r\n", "\r\n", "b\rc\n", "\r"], ["a", "", "b\rc", "\r"]),
        ("\n\n\n", ["\n", "\n", "\n"], ["", "", ""]),
        (long + "\r\n" + long, [long + "\r\n", long], [long, long]),
        ("a\n" + long + "\nb\n", ["a\n", long + "\n", "b\n"], ["a", long, "b"]),
    ])
    func `lines keep their endings unless strip is set`(content: String, kept: [String], stripped: [String])
        async throws
    {
        try await onThread {
            let folder = try Folder()
            try folder.write("file", content)
            for room in [Room(), .one, Room(bytes: 1)] {
                #expect(try text(folder.instance().sources("file")[0].frames(room)) == kept)
                let instance = try folder.instance(["strip": .boolean(true)])
                #expect(try text(instance.sources("file")[0].frames(room)) == stripped)
            }
        }
    }

    /// Tests lengths around the size of the plugin's buffer, so that the end of a line falls on each side of its end.
    @Test func `frames concatenate to the file wherever its lines end`() async throws {
        try await onThread {
            let folder = try Folder()
            let instance = try folder.instance()
            for length in 65_530...65_542 {
                for ending in ["", "\n", "\r\n", "\nx", "\nx\n"] {
                    let content = Array((String(repeating: "y", count: length) + ending).utf8)
                    try folder.write("file", content)
                    let frames = try instance.sources("file")[0].frames(.one)
                    #expect(frames.flatMap { $0 } == content)
                    #expect(frames.dropLast().allSatisfy { $0.last == 10 && $0.count { $0 == 10 } == 1 })
                }
            }
        }
    }

    @Test(arguments: [1, 2, 3, 1000, 65_536, 1 << 20])
    func `all chunks but the last have the configured size`(size: Int) async throws {
        try await onThread {
            let folder = try Folder()
            let instance = try folder.instance(["unit": .string("chunks"), "chunk_size": .size(UInt64(size))])
            for length in [0, size - 1, size, size + 1, size * 3] where length < 4 << 20 {
                let content = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31) }
                try folder.write("file", content)
                let frames = try instance.sources("file")[0].frames()
                #expect(frames.dropLast().allSatisfy { $0.count == size })
                #expect(frames.flatMap { $0 } == content)
                #expect(frames.last.map { (1...size).contains($0.count) } ?? content.isEmpty)
            }
        }
    }

    @Test func `whole chunks of 64 KiB and more are lent, and outlive the file and the source`() async throws {
        try await onThread {
            let folder = try Folder()
            for (size, isLent) in [(65_535, false), (65_536, true), (1 << 20, true)] {
                let instance = try folder.instance(["unit": .string("chunks"), "chunk_size": .size(UInt64(size))])
                let content = (0..<(size * 2 + 10)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
                try folder.write("file", content)
                let source = try instance.sources("file")[0]
                let first = source.poll(.one)
                #expect(first.lent == (isLent ? 1 : 0))
                #expect(first.items == [Array(content.prefix(size))])
                let rest = try source.frames()
                #expect(rest == [Array(content[size..<(2 * size)]), Array(content.suffix(10))])
                // The sink of a host of version 1.0 has no lend.
                let old = try instance.sources("file")[0].frames(Room(isVersion10: true))
                #expect(old.flatMap { $0 } == content)
                // Lent memory is not a file mapping: it does not change with the file. The test host compares it.
                let kept = try instance.sources("file")[0].poll(.one)
                #expect(kept.lent == (isLent ? 1 : 0))
                try folder.write("file", [])
            }
        }
    }

    @Test func `a line of 50 MiB is one frame`() async throws {
        try await onThread {
            let folder = try Folder()
            var content = [UInt8](repeating: 0x61, count: 50 << 20)
            content[content.count - 1] = 10
            try folder.write("file", Array("first\n".utf8) + content + Array("last".utf8))
            let frames = try folder.instance().sources("file")[0].frames()
            #expect(frames.map(\.count) == [6, 50 << 20, 4])
            #expect(frames[1] == content)
        }
    }

    @Test func `a line above the maximum frame size ends the source with an error`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("file", "first\n")
            try folder.truncate("file", to: (100 << 20) + 7)
            let (frames, last) = try folder.instance().sources("file")[0].collect()
            #expect(text(frames) == ["first\n"])
            #expect(last.status == badRequest)
            #expect(last.message.contains("the line at byte 6 is longer than 100 MiB"))
        }
    }

    @Test func `a large file is read in reservations of one chunk`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("file")
            try folder.truncate("file", to: 256 << 20)
            let source = try folder.instance(["unit": .string("chunks")]).sources("file")[0]
            var total = 0
            var answer = source.poll()
            while answer.status == ready {
                total += answer.items.reduce(0) { $0 + $1.count }
                #expect(answer.largestReservation <= 65_536)
                // One poll reads a limited number of bytes, whatever the room.
                #expect(answer.items.count <= 16)
                answer = source.poll(Room(bytes: .max))
            }
            #expect(answer.status == end)
            #expect(total + answer.items.reduce(0) { $0 + $1.count } == 256 << 20)
        }
    }

    @Test func `truncating a file while it is read fails its source`() async throws {
        try await onThread {
            let folder = try Folder()
            let lines = String(repeating: "line\n", count: 1000)
            for unit in ["lines", "chunks"] {
                try folder.write("file", lines)
                let source = try folder.instance(["unit": .string(unit), "chunk_size": .size(5)]).sources("file")[0]
                #expect(text(source.poll(.one).items) == ["line\n"])
                try folder.truncate("file", to: 20)
                let (frames, last) = try source.collect()
                #expect(text(frames) == ["line\n", "line\n", "line\n"])
                #expect(last.status == notFound)
                #expect(last.message == "file: was truncated to 20 bytes while it was read")
            }
        }
    }

    @Test func `data that is appended during reading is included`() async throws {
        try await onThread {
            let folder = try Folder()
            for unit in ["lines", "chunks"] {
                try folder.write("file", "one\ntwo\n")
                let source = try folder.instance(["unit": .string(unit), "chunk_size": .size(4)]).sources("file")[0]
                #expect(text(source.poll(.one).items) == ["one\n"])
                try folder.append("file", "more")
                #expect(try text(source.frames(.one)) == ["two\n", "more"])
            }
        }
    }

    @Test func `a removed or replaced file fails its source unless it was open`() async throws {
        try await onThread {
            let folder = try Folder()
            for name in ["a", "b", "c", "d"] { try folder.write(name, "one\ntwo\n") }
            let few = try folder.instance(["open_files": .integer(0)])
            let sources = try few.sources("*")
            try folder.remove("a")
            let gone = try sources[0].collect().last
            #expect(gone.status == notFound)
            #expect(gone.message == "a: was removed before it was read")

            #expect(text(sources[1].poll(.one).items) == ["one\n"])
            try folder.remove("b")
            #expect(try sources[1].collect().last.message == "b: was removed while it was read")

            #expect(text(sources[2].poll(.one).items) == ["one\n"])
            try folder.rename("d", to: "c")
            let replaced = try sources[2].collect().last
            #expect(replaced.status == notFound)
            #expect(replaced.message == "c: was replaced while it was read")

            let many = try folder.instance()
            let source = try many.sources("c")[0]
            #expect(text(source.poll(.one).items) == ["one\n"])
            try folder.remove("c")
            #expect(try text(source.frames()) == ["two\n"])
        }
    }

    @Test func `sources can be polled at the same time`() async throws {
        let folder = try Folder()
        let lines = (0..<20_000).map { "line \($0)\n" }
        try folder.write("file", lines.joined())
        let sources = try await onThread {
            for number in 0..<8 { try folder.link("link\(number)", to: "file") }
            for number in 0..<8 { try folder.check(link(folder.file("file"), folder.file("hard\(number)"))) }
            return try folder.instance(["open_files": .integer(3)]).sources("hard*")
        }
        #expect(sources.count == 8)
        try await withThrowingTaskGroup(of: [String].self) { group in
            for source in sources {
                group.addTask { try await onThread { text(try source.frames(Room(frames: 500))) } }
            }
            for try await read in group { #expect(read == lines) }
        }
    }

    @Test func `a source can be cancelled and closed at any point`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("file", "1\n2\n3\n4\n")
            for polls in 0..<6 {
                let call = try folder.instance().open("file")
                let source = try #require(try call.collect().sources.first)
                for _ in 0..<polls { _ = source.poll(.one) }
                source.cancel()
                source.cancel()
                if polls < 5 { #expect(source.poll().status == internalError) }
            }
        }
    }

    typealias Wrong = (configuration: [String: ConfigurationValue], message: String)

    static let wrong: [Wrong] = [
        (["rot": .string("/tmp")], "unknown key rot"),
        (["root": .string("/nowhere")], "/nowhere: cannot open the root folder: No such file or directory"),
        (["root": .string("/dev/null")], "/dev/null: cannot open the root folder: Not a directory"),
        (["unit": .string("bytes")], "unit: bytes is neither lines nor chunks"),
        (["unit": .boolean(true)], "a value of another type"),
        (["chunk_size": .size(0)], "chunk_size: 0 bytes are not between 1 and 100MiB"),
        (["chunk_size": .size(104_857_601)], "chunk_size: 104857601 bytes are not between 1 and 100MiB"),
        (
            ["unit": .string("chunks"), "strip": .boolean(true)],
            "strip: only lines have line endings; it needs `unit: lines`"
        ),
        (["open_files": .integer(-1)], "open_files: -1 is not between 0 and 1000000"),
        (["follow_interval": .duration(nanoseconds: 1)], "follow_interval is not between 10ms and 1h"),
    ]

    @Test(arguments: wrong)
    func `a wrong configuration is refused`(configuration: [String: ConfigurationValue], message: String) async throws {
        try await onThread {
            let folder = try Folder()
            let refusal = try #require(throws: Refusal.self) { try folder.instance(configuration) }
            #expect(refusal.status == badRequest)
            #expect(refusal.message == message)
        }
    }

    @Test func `a root is required`() async throws {
        try await onThread {
            let refusal = try #require(throws: Refusal.self) { try Instance(descriptor(ofProduct: "Files")) }
            #expect(refusal.status == badRequest)
            #expect(refusal.message == "root is missing: it must be the folder whose files are served")
        }
    }
}
