import CChanservPlugin
import Testing

@Suite struct LoadTests {
    @Test func `the requested numbers of sources and frames are sent`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            let sources = try instance.sources("300 7 64 random")
            #expect(text(sources.map(\.header)) == (0..<300).map { "\($0)" })
            var all: Set<[UInt8]> = []
            for source in sources {
                let frames = try source.frames()
                #expect(frames.count == 7)
                #expect(frames.allSatisfy { $0.count == 64 })
                all.formUnion(frames)
            }
            // All frames differ.
            #expect(all.count == 300 * 7)
            #expect(try instance.sources("0 5 10 zero").isEmpty)
            #expect(try instance.sources("1 0 10 zero")[0].frames().isEmpty)
            #expect(try instance.sources(" 1\t2 0 text 0\r\n")[0].frames() == [[], []])
        }
    }

    @Test func `a full sink receives the same frames in more polls`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            for request in ["2 40 64 text", "2 40 600 magic", "2 3 1500000 random"] {
                let whole = try instance.sources(request).map { try $0.frames() }
                let call = try instance.open(request)
                let (sources, last) = try call.collect(limit: 1)
                #expect(last.status == end)
                #expect(try sources.map { try $0.frames(.one) } == whole)
                #expect(try instance.sources(request).map { try $0.frames(Room(bytes: 2_000)) } == whole)
            }
        }
    }

    @Test func `frames of 8 KiB and more are lent on request and differ only in their heads`()
        async throws
    {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            for kind in ["random", "text", "magic", "zero"] {
                let lent = try instance.sources("2 5 10000 \(kind) lend")[1]
                // Frames that were lent in one poll are released before the next one, unchanged, and their memory is
                // reused.
                var frames: [[UInt8]] = []
                var status = ready
                while status == ready {
                    let answer = lent.poll(Room(frames: 2))
                    #expect(answer.lent == answer.items.count)
                    frames += answer.items
                    status = answer.status
                }
                #expect(status == end)
                #expect(frames.count == 5)
                // Only the heads differ.
                #expect(Set(frames.map { Array($0.dropFirst(20)) }).count == 1)
                #expect(Set(frames).count == (kind == "zero" ? 1 : 5))
                // A host of version 1.0 receives the same frames.
                let old = try instance.sources("2 5 10000 \(kind) lend")[1]
                #expect(try old.frames(Room(isVersion10: true)) == frames)
                // Also with a rate, and together with frames of another size.
                #expect(try instance.sources("2 5 10000 \(kind) 1000000 lend")[1].frames() == frames)
                let small = try instance.sources("2 5 8191 \(kind) lend")[1].poll()
                #expect(small.lent == 0)
                #expect(small.items == frames.map { Array($0.prefix(8_191)) })
            }
        }
    }

    @Test func `lent frames outlive their source and call`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            for _ in 0..<3 {
                // The source and the call are closed at the end of the line. The frames are released with the instance
                // and compared.
                let answer = try instance.sources("1 8 100000 random lend")[0].poll()
                #expect(answer.lent == 8)
            }
        }
    }

    @Test func `only plugins that return at once have the inline flag`() throws {
        for product in ["Load", "Echo", "Ticker"] {
            #expect(try descriptor(ofProduct: product).flags == UInt32(CHANSERV_PLUGIN_INLINE))
        }
        for product in ["Files", "Exec", "SQLite"] {
            #expect(try descriptor(ofProduct: product).flags & UInt32(CHANSERV_PLUGIN_INLINE) == 0)
        }
    }

    @Test func `frames have the content of their kind`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            func frames(_ request: String) throws -> [[UInt8]] { try instance.sources(request)[1].frames() }
            #expect(try frames("2 2 3000000 zero").allSatisfy { $0.allSatisfy { $0 == 0 } })

            let numbers = { (source: UInt8, frame: UInt8) in
                [source, 0, 0, 0, 0, 0, 0, 0, frame, 0, 0, 0, 0, 0, 0, 0] as [UInt8]
            }
            #expect(try frames("2 3 100 random")[2].prefix(16) == numbers(1, 2)[...])
            #expect(try frames("2 3 100 magic")[2].prefix(20) == ("lz4!".utf8 + numbers(1, 2))[...])
            #expect(try frames("2 3 6 magic")[2] == "lz4!".utf8 + [1, 0])

            let lines = try text(frames("2 2 100000 text"))
            #expect(lines[1].hasPrefix("0000000100000001"))
            let line = #/2026-01-31T\d\d:\d\d:\d\d\.\d{3}Z (info|debug|warning) [a-z]+: [a-z, ]+ id=[0-9a-f]{8} ms=\d+/#
            for frame in lines {
                // The first and the last line are incomplete.
                let whole = frame.split(separator: "\n").dropFirst().dropLast()
                #expect(whole.count > 700)
                #expect(whole.allSatisfy { (try? line.wholeMatch(in: $0)) != nil })
            }
            // All byte values are about equally frequent.
            var counts = [Int](repeating: 0, count: 256)
            for byte in try frames("2 1 1000000 random")[0] { counts[Int(byte)] += 1 }
            #expect(counts.allSatisfy { (3_000...5_000).contains($0) })
        }
    }

    @Test func `with a rate the first frame is sent at once and later frames are delayed`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            let slow = try instance.sources("1 3 8 random 0.001")[0]
            let first = slow.poll()
            #expect(first.status == pending)
            #expect(try first.items == [instance.sources("1 3 8 random")[0].frames()[0]])
            // A second poll before the due time must change the alarm, not add one.
            let second = slow.poll()
            #expect(second.status == pending)
            #expect(second.items.isEmpty)

            let all = try instance.sources("3 5 8 random").map { try $0.frames() }
            #expect(try instance.sources("3 5 8 random 200.5").map { try $0.frames() } == all)
        }
    }

    @Test func `waiting sources are woken in the order of their alarms`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            // The first alarms are far in the future, so the later ones must overtake them.
            let slow = try instance.sources("50 2 1 zero 0.001")
            for source in slow { #expect(source.poll().status == pending) }
            let quick = try instance.sources("50 4 1 zero 200")
            // All sources wait at the same time.
            let first = quick.map { $0.poll() }
            for (source, first) in zip(quick, first) {
                if first.status == pending { try source.wakeSignal.wait() }
                let rest = first.status == end ? [] : try source.frames()
                #expect(first.items.count + rest.count == 4)
            }
            for source in slow { #expect(source.poll().items.isEmpty) }
        }
    }

    @Test func `cancelling wakes a waiting source`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            let sources = try instance.sources("20 2 1 zero 0.00001")
            for source in sources { #expect(source.poll().status == pending) }
            // Removing alarms from the middle tests the heap.
            for source in sources[5..<15] {
                source.cancel()
                try source.wakeSignal.wait()
                let answer = source.poll()
                #expect(answer.status == internalError)
                #expect(answer.message == "cancelled")
                source.cancel()
            }
        }
    }

    @Test func `calls and sources can be closed at any point`() async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            _ = try instance.open("3 3 3 zero")
            _ = try instance.sources("3 3 3 zero 0.001")
            let call = try instance.open("2 1 1 zero 0.001")
            call.cancel()
            for source in call.poll().items { #expect(source.poll().status == end) }
        }
    }

    @Test(arguments: [
        ("", "expected SOURCES FRAMES SIZE KIND [RATE] [lend], such as "),
        ("1 1 1", "expected SOURCES FRAMES SIZE KIND [RATE] [lend], such as "),
        ("1 1 1 zero 1 1", "expected SOURCES FRAMES SIZE KIND [RATE] [lend], such as "),
        ("x 1 1 zero", "SOURCES is 'x', not a whole number from 0 to 1000000"),
        ("-1 1 1 zero", "SOURCES is '-1', not a whole number from 0 to 1000000"),
        ("1000001 1 1 zero", "SOURCES is '1000001', not a whole number from 0 to 1000000"),
        ("1 4294967296 1 zero", "FRAMES is '4294967296', not a whole number from 0 to 4294967295"),
        (
            "1 99999999999999999999999999 1 zero",
            "FRAMES is '999999999999999999999999...', not a whole number from 0 to 4294967295"
        ),
        ("1 1 104857601 zero", "SIZE is '104857601', not a whole number from 0 to 104857600"),
        ("1 1 1 Zero", "KIND is 'Zero', not zero, text, random or magic"),
        ("1 1 1 z\u{1}", "KIND is 'z?', not zero, text, random or magic"),
        ("1 1 1 zero .", "RATE is '.', not a number of frames per second from 0 to 1000000"),
        ("1 1 1 zero 1.2.3", "RATE is '1.2.3', not a number of frames per second from 0 to 1000000"),
        ("1 1 1 zero 1e3", "RATE is '1e3', not a number of frames per second from 0 to 1000000"),
        ("1 1 1 zero 1000000.1", "RATE is '1000000.1', not a number of frames per second from 0 to 1000000"),
    ])
    func `a malformed request is refused`(request: String, message: String) async throws {
        try await onThread {
            let instance = try Instance(descriptor(ofProduct: "Load"))
            let refusal = try #require(throws: Refusal.self) { try instance.open(request) }
            #expect(refusal.status == badRequest)
            #expect(refusal.message.hasPrefix("bad request: " + message))
        }
    }

    @Test func `a frame of the maximum size is sent`() async throws {
        try await onThread {
            let answer = try Instance(descriptor(ofProduct: "Load")).sources("1 1 104857600 random")[0].poll()
            #expect(answer.status == end)
            #expect(answer.items.map(\.count) == [104_857_600])
            #expect(answer.largestReservation == 104_857_600)
        }
    }

    @Test func `every configuration key is refused`() async throws {
        try await onThread {
            let refusal = try #require(throws: Refusal.self) {
                try Instance(descriptor(ofProduct: "Load"), ["loud": .boolean(true)])
            }
            #expect(refusal.status == badRequest)
            #expect(refusal.message == "unknown key loud")
        }
    }
}
