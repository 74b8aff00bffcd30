import CZstd
import Foundation
import Testing

/// What real logs need: rotation faster than the interval, links, compressed files, positions.
@Suite(.timeLimit(.minutes(2))) struct FilesLogTests {
    static let hour: [String: ConfigurationValue] = ["follow_interval": .duration(nanoseconds: 3_600_000_000_000)]

    static func follow(_ folder: Folder, _ more: [String: ConfigurationValue] = [:]) throws -> Instance {
        try FilesFollowTests.follow(folder, more)
    }

    /// The header of a source as a position for `resume`, after `bytes` bytes.
    static func position(_ source: Stream, after bytes: Int) throws -> String {
        var header = try #require(try JSONSerialization.jsonObject(with: Data(source.header)) as? [String: Any])
        header["offset"] = try #require(header["offset"] as? Int) + bytes
        let json = try JSONSerialization.data(withJSONObject: ["resume": [header]])
        return String(decoding: json, as: UTF8.self) + "\n"
    }

    /// Makes the plugin process what has happened to all files, which it does before it follows another one.
    static func processReports(_ instance: Instance) throws {
        #expect(try instance.sources("{}\nother").count == 1)
    }

    // MARK: Rotation

    @Test(arguments: [false, true]) func `rotations between two polls lose nothing`(compressed: Bool) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "line 0\n")
            try folder.write("other")
            let instance = try Self.follow(folder, Self.hour)
            let source = try instance.sources("log")[0]
            #expect(try source.texts(1) == ["line 0\n"])
            #expect(source.poll().status == pending)
            try source.wakeSignal.holdWaker(after: { try folder.append("log", "more\n") }) {
                for round in 1..<20 {
                    // Files that are written at the same time have no order.
                    try folder.waitForLaterTime(than: "log")
                    for old in (1..<20).reversed() {
                        rename(folder.file("log.\(old)"), folder.file("log.\(old + 1)"))
                    }
                    try folder.rename("log", to: "log.1")
                    try folder.write("log", "line \(round)\n")
                }
            }
            if compressed {
                try Self.processReports(instance)
                for old in 1..<20 { try compress("log.\(old)", in: folder) }
            }
            #expect(try source.texts(20) == ["more\n"] + (1..<20).map { "line \($0)\n" })
        }
    }

    @Test func `the rest of a truncated file is read from its copy`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\ntwo\nthree\n")
            let source = try Self.follow(folder, Self.hour).sources("log")[0]
            #expect(text(source.poll(.one).items) == ["one\n"])
            try folder.write("log.1", "one\ntwo\nthree\nfour\n")
            try folder.truncate("log", to: 0)
            // The file has grown beyond the position again.
            try folder.append("log", "other five\nother six\nother seven\n")
            #expect(
                try source.texts(6) == [
                    "two\n", "three\n", "four\n", "other five\n", "other six\n", "other seven\n",
                ])
        }
    }

    @Test func `a truncation is noticed although the contents begin with the same bytes`() async throws {
        try await onThread {
            for _ in 0..<20 {
                let folder = try Folder()
                try folder.write("log", "line 2")
                let source = try Self.follow(folder, Self.hour).sources("log")[0]
                #expect(source.poll().status == pending)
                try folder.append("log", "3 before\n")
                try folder.write("log.1", "line 23 before\n")
                try folder.truncate("log", to: 0)
                try folder.append("log", "line 24 after, and longer\n")
                #expect(try source.texts(2) == ["line 23 before\n", "line 24 after, and longer\n"])
            }
        }
    }

    enum Rotation: Sendable {
        case rename, copytruncate, compress
    }

    /// Rotations that the plugin sees only when they are over, each after `lines` were written.
    @Test(
        arguments: [
            [(["a"], .rename), (["b"], .copytruncate), (["c"], .compress)],
            [(["a"], .rename), (["b"], .copytruncate), (["c"], .rename)],
            [(["a"], .rename), (["b"], .copytruncate), ([], .rename)],
            [(["a"], .rename), (["b"], .copytruncate), (["c"], .copytruncate), ([], .compress)],
            [(["a"], .rename), ([], .compress), ([], .copytruncate), (["b"], .compress)],
            [(["a"], .copytruncate), (["b"], .copytruncate), (["c"], .rename), (["d"], .compress)],
            [(["a"], .copytruncate), (["b"], .copytruncate), (["c"], .copytruncate), (["d"], .rename)],
            [
                (["a"], .compress), (["b"], .copytruncate), (["c"], .compress), (["d"], .copytruncate),
                (["e"], .compress),
            ],
        ] as [[([String], Rotation)]])
    func `rotations of different kinds in a row lose nothing and keep the order`(rotations: [([String], Rotation)])
        async throws
    {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "first line\n")
            let instance = try Self.follow(folder, Self.hour)
            let source = try instance.sources("log")[0]
            #expect(try source.texts(1) == ["first line\n"])
            #expect(source.poll().status == pending)
            try source.wakeSignal.holdWaker(after: { try folder.append("log", "second line\n") }) {
                for (lines, rotation) in rotations {
                    for line in lines { try folder.append("log", "line \(line)\n") }
                    try folder.waitForLaterTime(than: "log")
                    for old in (1...rotations.count).reversed() {
                        for suffix in ["", ".gz"] {
                            rename(folder.file("log.\(old)\(suffix)"), folder.file("log.\(old + 1)\(suffix)"))
                        }
                    }
                    if rotation == .copytruncate {
                        try folder.write("log.1", [UInt8](Data(contentsOf: URL(filePath: folder.file("log")))))
                        try folder.truncate("log", to: 0)
                    } else {
                        try folder.rename("log", to: "log.1")
                        try folder.write("log")
                        if rotation == .compress { try compress("log.1", in: folder) }
                    }
                }
                try folder.append("log", "last line\n")
            }
            let expected = ["second line\n"] + rotations.flatMap { $0.0.map { "line \($0)\n" } } + ["last line\n"]
            #expect(try source.texts(expected.count) == expected)
            #expect(!instance.host.log.contains { $0.contains("missing") })
        }
    }

    @Test func `what was truncated without a copy is counted`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\ntwo\nthree\n")
            let instance = try Self.follow(folder)
            let source = try instance.sources("log")[0]
            #expect(text(source.poll(.one).items) == ["one\n"])
            try folder.truncate("log", to: 0)
            #expect(source.poll().status == pending)
            try folder.append("log", "four\n")
            #expect(try source.texts(1) == ["four\n"])
            let line = try instance.host.waitForLine { $0.contains("missing") }
            #expect(line.contains(": 0 files and 10 bytes of others are missing"))
        }
    }

    @Test func `what is written to a rotated file after the new one has data is counted`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let instance = try Self.follow(folder, ["resume_window": .duration(nanoseconds: 300_000_000)])
            let source = try instance.sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            try folder.rename("log", to: "log.1")
            try folder.write("log", "two\n")
            #expect(try source.texts(1) == ["two\n"])
            try folder.append("log.1", "late\n")
            _ = try instance.host.waitForLine { $0.contains(": 0 files and 5 bytes of others are missing") }
        }
    }

    @Test func `a hole that a writer leaves after a truncation is skipped`() async throws {
        try await onThread {
            let folder = try Folder()
            for size in [3000, 1_000_000, 300 << 20] {
                try folder.write("log", "first\n")
                let instance = try Self.follow(folder)
                let source = try instance.sources("log")[0]
                #expect(try source.texts(1) == ["first\n"])
                #expect(source.poll().status == pending)
                try folder.truncate("log", to: 0)
                #expect(try source.wakeSignal.wait() == ())
                #expect(source.poll().status == pending)
                // The writer keeps its offset.
                let file = open(folder.file("log"), O_WRONLY)
                defer { close(file) }
                for (index, line) in ["after the rotation\n", "one more\n"].enumerated() {
                    #expect(pwrite(file, line, line.utf8.count, off_t(size + index * 19)) == line.utf8.count)
                    #expect(try source.texts(1) == [line])
                }
                #expect(instance.host.log.contains { $0.contains("skipped \(size) bytes at byte 0: a hole") })
            }
        }
    }

    @Test func `a line that is too long is skipped and the next ones come`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "first\n")
            let instance = try Self.follow(folder)
            let source = try instance.sources("log")[0]
            #expect(try source.texts(1) == ["first\n"])
            let part = String(repeating: "x", count: 10 << 20)
            for _ in 0..<11 {
                try folder.append("log", part)
                _ = source.poll()
            }
            try folder.append("log", "\nnext\n")
            #expect(try source.texts(1) == ["next\n"])
            #expect(instance.host.log.contains { $0.contains("skipped 115343361 bytes at byte 6: a line longer") })
        }
    }

    @Test func `without inotify watches there is one warning, and the interval finds rotated files`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            try folder.write("other", "one\n")
            let instance = try Instance(
                FilesBeneathTests.withoutWatches.get(),
                [
                    "root": .string(folder.path), "follow": .boolean(true),
                    "follow_interval": .duration(nanoseconds: 50_000_000),
                ])
            let sources = try instance.sources("{log,other}")
            for source in sources { #expect(try source.texts(1) == ["one\n"]) }
            try folder.append("other", "two\n")
            #expect(try sources[1].texts(1) == ["two\n"])
            for number in 0..<3 {
                try folder.rename("log", to: "log.\(number)")
                try folder.write("log", "next \(number)\n")
                try folder.waitForLaterTime(than: "log")
            }
            #expect(try sources[0].texts(3) == ["next 0\n", "next 1\n", "next 2\n"])
            let warnings = instance.host.log.filter { $0.contains("inotify") }
            #expect(warnings.count == 1)
            #expect(warnings.first?.hasPrefix("inotify_add_watch failed: No space left on device") == true)
        }
    }

    // MARK: Root and links

    @Test func `a root that is a link is resolved for each request`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("a/file", "old")
            try folder.write("b/file", "new")
            try folder.link("current", to: "a")
            let instance = try folder.instance(["root": .string(folder.file("current"))])
            #expect(try text(instance.sources("file")[0].frames()) == ["old"])
            try folder.link("next", to: "b")
            try folder.rename("next", to: "current")
            #expect(try text(instance.sources("file")[0].frames()) == ["new"])
            try folder.remove("current")
            let refusal = try #require(throws: Refusal.self) { try instance.sources("file") }
            #expect(refusal.message.contains("current: cannot open the root folder: No such file or directory"))
            try folder.link("current", to: "a")
            #expect(try text(instance.sources("file")[0].frames()) == ["old"])
        }
    }

    @Test(arguments: ["link", "l*", "dir/file"])
    func `a request that finds only symbolic links fails with the reason`(pattern: String) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("data/file", "x")
            try folder.link("link", to: "data/file")
            try folder.link("dir", to: "data")
            let refusal = try #require(throws: Refusal.self) { try folder.instance().sources(pattern) }
            #expect(refusal.status == notFound)
            #expect(refusal.message.contains("was left out: a symbolic link"))
            #expect(refusal.message.contains("follow_links"))
            #expect(try folder.instance().sources("nothing").isEmpty)
        }
    }

    @Test(arguments: FilesBeneathTests.Kernel.allCases)
    func `links into the folders of follow_links are followed, and no others`(kernel: FilesBeneathTests.Kernel)
        async throws
    {
        try await onThread {
            let outside = try Folder()
            try outside.write("pods/app/0.log", "pod\n")
            try outside.write("secret/file", "secret\n")
            try outside.link("pods/app/evil.log", to: outside.file("secret/file"))
            try outside.link("pods/loop", to: outside.file("pods"))
            let folder = try Folder()
            try folder.write("own.log", "own\n")
            try folder.link("first.log", to: outside.file("pods/app/0.log"))
            try folder.link("second.log", to: "first.log")
            try folder.link("bad.log", to: outside.file("secret/file"))
            try folder.link("dangling.log", to: outside.file("pods/none"))
            try folder.link("up.log", to: outside.file("pods/../secret/file"))
            try folder.link("evil.log", to: outside.file("pods/app/evil.log"))
            try folder.link("tree", to: outside.file("pods"))
            let instance = try kernel.instance(folder, ["follow_links": .list([outside.file("pods")])])
            let sources = try instance.sources("**")
            #expect(try paths(sources) == ["first.log", "own.log", "second.log", "tree/app/0.log"])
            #expect(try sources.map { try text($0.frames()) } == [["pod\n"], ["own\n"], ["pod\n"], ["pod\n"]])
            #expect(try paths(instance.sources("tree/*/0.log")) == ["tree/app/0.log"])
            // A link that is replaced after it was found does not lead out.
            let found = try instance.sources("first.log")[0]
            try folder.remove("first.log")
            try folder.link("first.log", to: outside.file("secret/file"))
            #expect(try found.collect().last.status == notFound)
            let swapped = try instance.sources("tree/app/0.log")[0]
            try outside.rename("pods/app", to: "pods/gone")
            try outside.link("pods/app", to: outside.file("secret"))
            try outside.write("secret/0.log", "secret\n")
            #expect(try swapped.collect().last.status == notFound)
        }
    }

    @Test func `a followed link continues with its new target`() async throws {
        try await onThread {
            let outside = try Folder()
            try outside.write("a/0.log", "a\n")
            try outside.write("b/0.log", "b\n")
            let folder = try Folder()
            try folder.link("app.log", to: outside.file("a/0.log"))
            let source = try Self.follow(folder, ["follow_links": .list([outside.path])]).sources("app.log")[0]
            #expect(try source.texts(1) == ["a\n"])
            try outside.rename("a/0.log", to: "a/0.log.1")
            try outside.write("a/0.log", "rotated\n")
            #expect(try source.texts(1) == ["rotated\n"])
            try folder.link("next", to: outside.file("b/0.log"))
            try folder.rename("next", to: "app.log")
            #expect(try source.texts(1) == ["b\n"])
        }
    }

    // MARK: Patterns

    @Test(arguments: [
        ("{a,b}.log", ["a.log", "b.log"]),
        ("{d/e/c,a}.log", ["a.log", "d/e/c.log"]),
        ("{a,b{,.x}}.{log,txt}", ["a.log", "b.log", "b.txt"]),
        ("a{,.log}", ["a.log"]),
        ("{a}.log", []),
        ("{a,b", []),
        ("\\{x,y\\}.log", ["{x,y}.log"]),
        ("[{]x[,]y}.log", ["{x,y}.log"]),
        ("*.log\n!b.log", ["[x].log", "a.log", "back\\slash.log", "d-e.log", "{x,y}.log", "ä.log"]),
        ("!d/**\n**/{a,c}.log", ["a.log"]),
        ("**/a.log\n!a.log", ["d/a.log"]),
        ("\\!odd", ["!odd"]),
    ])
    func `braces and exclusions select the expected files`(pattern: String, expected: [String]) async throws {
        try await onThread {
            let folder = try Folder()
            for path in FilesGlobTests.tree + ["{x,y}.log", "!odd"] { try folder.write(path) }
            #expect(try paths(folder.instance().sources(pattern)) == expected)
        }
    }

    @Test(arguments: [
        ("!a", "only patterns with `!`"),
        (String(repeating: "{a,b}", count: 11), "exceeds the limit of 1024 patterns"),
        (String(repeating: "{", count: 65), "has more than 64 opening braces"),
        ("{a,[b}", "has a [ without a closing ]"),
        ("{a,..}/x", "has a component .."),
        ("!../x\na", "has a component .."),
        ("{\"tail\":-1}\na", "not an integer"),
        ("{\"tail\":1000001}\na", "above 1000000"),
        ("{\"tial\":1}\na", "unknown option"),
        ("{\"follow\":true}\na", "does not allow"),
        ("{\"follow\":1}\na", "neither true nor false"),
        ("{\"tail\":1\na", "not valid JSON"),
        ("{\"tail\":1} x\na", "not one JSON object"),
        ("{\"resume\":[{\"path\":\"a\"}]}\na", "without path or inode"),
        ("{}", "no pattern"),
        ("{}\n\n[a", "line 3: "),
    ])
    func `malformed options and patterns are refused`(request: String, message: String) async throws {
        try await onThread {
            let refusal = try #require(throws: Refusal.self) { try Folder().instance().open(request) }
            #expect(refusal.status == badRequest)
            #expect(refusal.message.contains(message), "\(refusal.message)")
        }
    }

    // MARK: Options

    @Test func `new files are sent while the request follows`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("a.log", "before\na\n")
            let call = try Self.follow(folder, Self.hour).open(
                "{\"new_files\":true,\"tail\":1}\n*.log\n**/*.log\n*.log.*")
            var sources = call.poll().items
            #expect(try paths(sources) == ["a.log"])
            #expect(call.poll().status == pending)
            #expect(try sources[0].texts(1) == ["a\n"])
            for path in ["b.log", "d/c.log"] {
                try folder.write(path, "one\ntwo\n")
                while call.poll().items.first.map({ sources.append($0) }) == nil { try call.wakeSignal.wait() }
                #expect(try paths(sources.suffix(1)) == [path])
                // All of a new file is sent, whatever `tail` says.
                #expect(try sources.last?.texts(2) == ["one\n", "two\n"])
            }
            // A rotated file is part of the source that follows it.
            try folder.rename("a.log", to: "a.log.1")
            try folder.write("a.log", "a2\n")
            #expect(try sources[0].texts(1) == ["a2\n"])
            let answer = call.poll()
            #expect(answer.status == pending && answer.items.isEmpty)
            call.cancel()
            #expect(call.poll().status == internalError)
        }
    }

    @Test(arguments: [
        (0, [], ["new\n"]), (1, ["3\n"], ["new\n"]), (2, ["2\n", "3\n"], ["new\n"]),
        (9, ["1\n", "2\n", "3\n"], ["new\n"]),
    ])
    func `tail begins with the last lines`(tail: Int, last: [String], more: [String]) async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "1\n2\n3\n")
            let request = "{\"tail\":\(tail)}\nlog"
            #expect(try text(folder.instance().sources(request)[0].frames()) == last)
            let source = try Self.follow(folder).sources(request)[0]
            try folder.append("log", "new\n")
            #expect(try source.texts(last.count + 1) == last + more)
            // An incomplete line is not torn.
            try folder.append("log", "begin")
            let next = try Self.follow(folder).sources("{\"tail\":0}\nlog")[0]
            #expect(next.poll().status == pending)
            try folder.append("log", "ning\n")
            #expect(try next.texts(1) == ["beginning\n"])
        }
    }

    @Test func `tail finds its position in a large file`() async throws {
        try await onThread {
            let folder = try Folder()
            let lines = (0..<300_000).map { "line \($0) with some text\n" }
            try folder.write("log", lines.joined())
            try gzip("log.gz", Array(lines.joined().utf8), in: folder)
            for (name, tail) in [("log", 250_000), ("log", 10), ("log.gz", 250_000), ("log.gz", 3)] {
                let sources = try folder.instance().sources("{\"tail\":\(tail),\"decompress\":true}\n\(name)")
                #expect(try text(sources[0].frames()) == lines.suffix(tail))
            }
        }
    }

    @Test func `a client resumes across rotations`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "1\n2\n")
            try folder.write("other")
            let instance = try Self.follow(folder, ["resume_window": .duration(nanoseconds: 60_000_000_000)])
            var source: Stream? = try instance.sources("{}\nlog")[0]
            #expect(try source?.texts(1) == ["1\n"])
            for round in 0..<3 {
                let position = try Self.position(#require(source), after: round == 0 ? 2 : 6)
                source = nil
                // Rotated by renaming and compression, and by copytruncate, while no client follows.
                try folder.append("log", "3\n")
                try folder.rename("log", to: "log.1")
                try folder.write("log", "4\n")
                try Self.processReports(instance)
                try compress("log.1", in: folder)
                try folder.write("log.2", "4\n")
                try folder.truncate("log", to: 0)
                try Self.processReports(instance)
                try folder.append("log", "2\n")
                source = try instance.sources(position + "log")[0]
                #expect(try source?.texts(4) == ["2\n", "3\n", "4\n", "2\n"])
                for old in ["log.1.gz", "log.2"] { try folder.remove(old) }
            }
        }
    }

    /// The plugin keeps 4,096 generations for a client that does not read, and then gives up the oldest ones.
    @Test func `a client resumes although a slow client was left behind`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "line 0\n")
            let instance = try Self.follow(folder, Self.hour)
            var number = 0
            func rotate(_ source: Stream, _ times: Int) throws {
                for _ in 0..<times {
                    try folder.rename("log", to: "log.\(number)")
                    number += 1
                    try folder.write("log", "line \(number)\n")
                    #expect(try source.texts(1) == ["line \(number)\n"])
                }
            }
            var source: Stream? = try instance.sources("{}\nlog")[0]
            let first = try #require(source)
            #expect(try first.texts(1) == ["line 0\n"])
            // Some generations are forgotten before the slow client comes, and others because of it.
            try rotate(first, 300)
            let slow = try instance.sources("{}\nlog")[0]
            #expect(try slow.texts(1) == ["line 300\n"])
            try rotate(first, 4200)
            let sent = (0...number).reduce(0) { $0 + "line \($1)\n".utf8.count }
            let position = try Self.position(first, after: sent)
            source = nil
            try folder.append("log", "next\n")
            source = try instance.sources(position + "log")[0]
            #expect(try source?.texts(1) == ["next\n"])
            // The slow client continues with the oldest file that is left.
            #expect(try slow.texts(1) == ["line \(number + 1 - 4096)\n"])
            #expect(instance.host.log.contains { $0.contains("files and 0 bytes of others are missing") })
        }
    }

    @Test func `a source continues after descriptors were lacking`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "one\n")
            let source = try FilesFollowTests.follow(folder, open: 0).sources("log")[0]
            #expect(try source.texts(1) == ["one\n"])
            #expect(source.poll().status == pending)
            try folder.append("log", "two\n")
            try source.wakeSignal.wait()
            // The plugin knows the new size, and cannot open the file.
            var limit = rlimit()
            try folder.check(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit))
            var none = limit
            none.rlim_cur = 0
            try folder.check(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none))
            let answer = source.poll()
            try folder.check(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit))
            #expect(answer.status == pending && answer.items.isEmpty)
            try source.wakeSignal.wait()
            #expect(try source.texts(1) == ["two\n"])
        }
    }

    @Test func `a client resumes at another instance with the inode`() async throws {
        try await onThread {
            let folder = try Folder()
            try folder.write("log", "1\n2\n3\n")
            let position = try Self.position(Self.follow(folder).sources("{}\nlog")[0], after: 4)
            try folder.rename("log", to: "log.2")
            try folder.waitForLaterTime(than: "log.2")
            try folder.write("log.1", "4\n")
            try folder.waitForLaterTime(than: "log.1")
            try folder.write("log", "5\n")
            let source = try Self.follow(folder).sources(position + "log")[0]
            #expect(try source.texts(3) == ["3\n", "4\n", "5\n"])
            let torn = position.replacing("\"offset\":4", with: "\"offset\":3")
            #expect(torn != position)
            #expect(try Self.follow(folder).sources(torn + "log")[0].collect().last.status == notFound)
            // Without following, the position must be in the file itself.
            let same = try Self.position(folder.instance().sources("{}\nlog.2")[0], after: 2)
            #expect(try text(folder.instance().sources(same + "log.2")[0].frames()) == ["2\n", "3\n"])
            try folder.remove("log.2")
            for instance in [try Self.follow(folder), try folder.instance()] {
                let last = try instance.sources(position + "log")[0].collect().last
                #expect(last.status == notFound)
                #expect(last.message.contains("cannot resume"))
            }
        }
    }

    // MARK: Compressed files

    @Test func `compressed files are read as their content`() async throws {
        try await onThread {
            let folder = try Folder()
            let lines = (0..<100_000).map { "line \($0)\n" }
            let content = Array(lines.joined().utf8)
            try gzip("a.gz", content, in: folder)
            // Two members, as after appending.
            let member = try Data(contentsOf: URL(filePath: folder.file("a.gz")))
            try folder.write("b.gz", [UInt8](member) + [UInt8](member))
            var packed = [UInt8](repeating: 0, count: ZSTD_compressBound(content.count))
            packed.removeLast(packed.count - ZSTD_compress(&packed, packed.count, content, content.count, 3))
            try folder.write("c.zst", packed + packed)
            try folder.write("plain", "plain\n")
            for room in [Room(), Room(frames: 700)] {
                let sources = try folder.instance(["decompress": .boolean(true)]).sources("*")
                #expect(try text(sources[0].frames(room)) == lines)
                #expect(try text(sources[1].frames(room)) == lines + lines)
                #expect(try text(sources[2].frames(room)) == lines + lines)
                #expect(try text(sources[3].frames(room)) == ["plain\n"])
            }
            let chunks = try folder.instance(["decompress": .boolean(true), "unit": .string("chunks")])
            #expect(try chunks.sources("c.zst")[0].frames().flatMap { $0 } == content + content)
            // By default the files are sent as they are.
            let raw = try folder.instance(["unit": .string("chunks")]).sources("c.zst")[0]
            #expect(try raw.frames().flatMap { $0 } == packed + packed)
        }
    }

    @Test func `corrupt compressed data fails only its source`() async throws {
        try await onThread {
            let folder = try Folder()
            let content = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }
            try gzip("a.gz", content, in: folder)
            let good = [UInt8](try Data(contentsOf: URL(filePath: folder.file("a.gz"))))
            try folder.write("b.gz", Array(good.dropLast(100)))
            try folder.write("c.gz", "this is not compressed\n")
            var bad = good
            bad[good.count / 2] ^= 0xFF
            try folder.write("d.gz", bad)
            try folder.write("e.zst", [0x28, 0xB5, 0x2F, 0xFD, 0xFF, 1, 2, 3])
            let sources = try folder.instance(["decompress": .boolean(true)]).sources("*")
            #expect(try sources[0].frames().flatMap { $0 } == content)
            for (source, message) in zip(
                sources.dropFirst(), ["ends too early", "not in the gzip format", "data", "data"])
            {
                let last = try source.collect().last
                #expect(last.status == badRequest)
                #expect(last.message.contains("cannot be decompressed: "))
                #expect(last.message.contains(message))
            }
        }
    }

    @Test func `content that is much larger than its compressed form needs little memory`() async throws {
        try await onThread {
            let folder = try Folder()
            let line = [UInt8](repeating: 0x61, count: 999) + [10]
            var content: [UInt8] = []
            for _ in 0..<30_000 { content += line }
            try gzip("bomb.gz", content, in: folder)
            let source = try folder.instance(["decompress": .boolean(true)]).sources("bomb.gz")[0]
            var count = 0
            while true {
                let answer = source.poll(Room(bytes: .max))
                #expect(answer.items.count <= 1200)
                count += answer.items.count
                if answer.status != ready { break }
            }
            #expect(count == 30_000)
        }
    }
}
