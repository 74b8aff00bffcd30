import CChanservPlugin
import Foundation
import Testing

@Suite struct FilesFollowTests {
    /// Values of open_files: all files stay open, and none.
    static let open = [256, 0]

    static func follow(_ folder: Folder, open: Int = 256, _ more: [String: ConfigurationValue] = [:]) throws -> Instance
    {
        let following: [String: ConfigurationValue] = [
            "follow": .boolean(true), "open_files": .integer(Int64(open)),
            "follow_interval": .duration(nanoseconds: 10_000_000), "resume_window": .duration(nanoseconds: 0),
        ]
        return try folder.instance(following.merging(more) { _, more in more })
    }

    @Test(arguments: open) func `appended lines are sent`(open: Int) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder, open: open).sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            for number in 0..<20 {
                #expect(source.poll().status == pending)
                try folder.append("log", "line \(number)\n")
                #expect(try source.texts(1) == ["line \(number)\n"])
            }
        }
    }

    @Test func `a line is sent when it is complete`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "be")
            let source = try Self.follow(folder).sources("log")[0]
            for part in ["g", "u", String(repeating: "n", count: 200_000)] {
                let answer = source.poll()
                #expect(answer.status == pending)
                #expect(answer.items == [])
                try folder.append("log", part)
                try source.wakeSignal.wait()
            }
            #expect(source.poll().status == pending)
            try folder.append("log", "\nnext\n")
            #expect(try source.texts(2) == ["begu" + String(repeating: "n", count: 200_000) + "\n", "next\n"])
        }
    }

    @Test func `a chunk is sent as soon as there is data`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "12345")
            let source = try Self.follow(folder, ["unit": .string("chunks"), "chunk_size": .size(4)]).sources("log")[0]
            #expect(try source.texts(2) == ["1234", "5"])
            #expect(source.poll().status == pending)
            try folder.append("log", "6")
            #expect(try source.texts(1) == ["6"])
        }
    }

    @Test(arguments: open) func `a truncated file is read from its beginning`(open: Int) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\ntwo\n")
            let source = try Self.follow(folder, open: open).sources("log")[0]
            #expect(try source.texts(2) == ["one\n", "two\n"])
            #expect(source.poll().status == pending)
            try folder.truncate("log", to: 0)
            try source.wakeSignal.wait()
            #expect(source.poll().status == pending)
            try folder.append("log", "new\n")
            #expect(try source.texts(1) == ["new\n"])
        }
    }

    @Test func `a rotation loses no data`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder).sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            for round in 0..<5 {
                #expect(source.poll().status == pending)
                try folder.rename("log", to: "log.1")
                // A daemon writes to the old file until it is informed, even if the new file exists.
                try folder.append("log.1", "late \(round)\n")
                #expect(try source.texts(1) == ["late \(round)\n"])
                #expect(source.poll().status == pending)
                try folder.write("log", "")
                try folder.append("log.1", "later \(round)\nbegun \(round)")
                try folder.append("log", "new \(round)\n")
                // The line without ending is sent too, so that the frames concatenate to the file.
                #expect(try source.texts(3) == ["later \(round)\n", "begun \(round)", "new \(round)\n"])
            }
        }
    }

    @Test(arguments: open) func `a removed file is followed again when it is recreated`(open: Int) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder, open: open).sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            #expect(source.poll().status == pending)
            // A second link prevents that the inode number is reused within the resolution of the clock.
            try folder.check(link(folder.file("log"), folder.file("kept")))
            try folder.remove("log")
            // Created under another name, so that it has content at once.
            try folder.write("new", "two\nthree\n")
            try folder.rename("new", to: "log")
            #expect(try source.texts(2) == ["two\n", "three\n"])
        }
    }

    @Test func `a file that was removed before it was opened is awaited`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder).sources("log")[0]
            try folder.remove("log")
            #expect(source.poll().status == pending)
            try folder.write("log", "two\n")
            #expect(try source.texts(1) == ["two\n"])
        }
    }

    @Test(arguments: open) func `a new file that is not readable yet is awaited`(open: Int) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.giveUpPrivileges()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder, open: open).sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            try folder.write("new", "two\n")
            try folder.check(chmod(folder.file("new"), 0))
            try folder.rename("log", to: "log.1")
            try folder.rename("new", to: "log")
            #expect(source.poll().status == pending)
            #expect(source.poll().status == pending)
            try folder.check(chmod(folder.file("log"), 0o644))
            #expect(try source.texts(1) == ["two\n"])
        }
    }

    @Test func `a file that is not readable fails its source`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.giveUpPrivileges()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder).sources("log")[0]
            try folder.check(chmod(folder.file("log"), 0))
            let answer = source.poll()
            #expect(answer.status == notFound)
            #expect(answer.message == "log: cannot be opened: Permission denied")
        }
    }

    @Test func `a link that replaces the file is not followed`() async throws {
        try await onThread {
            let outside = try Folder()
            try outside.write("secret", "secret\n")
            let folder = try Folder()
            try folder.write("log", "one\n")
            let source = try Self.follow(folder).sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            #expect(source.poll().status == pending)
            try folder.rename("log", to: "log.1")
            try folder.link("log", to: outside.file("secret"))
            try folder.append("log.1", "two\n")
            #expect(try source.texts(1) == ["two\n"])
            try folder.remove("log")
            try folder.write("log", "three\n")
            #expect(try source.texts(1) == ["three\n"])
        }
    }

    @Test func `several sources can follow one file`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let instance = try Self.follow(folder)
            var sources = try (0..<10).map { _ in try instance.sources("log")[0] }
            for source in sources {
                #expect(try source.texts(1) == ["one\n"])
                #expect(source.poll().status == pending)
            }
            // A source that is closed must not remove the watch of the others.
            sources.removeFirst()
            try folder.append("log", "two\n")
            for source in sources { #expect(try source.texts(1) == ["two\n"]) }
        }
    }

    @Test func `cancelling wakes a waiting source`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log")
            let source = try Self.follow(folder, ["follow_interval": .duration(nanoseconds: 3_600_000_000_000)])
                .sources("log")[0]
            #expect(source.poll().status == pending)
            source.cancel()
            try source.wakeSignal.wait()
            #expect(source.poll().status == internalError)
        }
    }

    /// Closes, writes and wakes from many threads at the same time, mainly for the sanitizers.
    @Test func `sources can be opened and closed while their files are written`() async throws {
        let folder = try Folder()
        for number in 0..<8 { try folder.write("log\(number)", "first\n") }
        let instance = try await onThread { try Self.follow(folder, open: 4) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<8 {
                group.addTask {
                    try await onThread {
                        for round in 0..<40 {
                            let source = try instance.sources("log\(number)")[0]
                            _ = try source.texts(1)
                            try folder.append("log\((number + 1) % 8)", "round \(round)\n")
                            _ = source.poll(.one)
                            if round % 3 == 0 { source.cancel() }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        // Only the root is open.
        #expect(try folder.descriptors() == 1)
        withExtendedLifetime(instance) {}
    }
}
