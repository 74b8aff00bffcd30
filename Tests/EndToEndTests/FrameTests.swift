import Chanserv
import Foundation
import NIOCore
import TestSupport
import Testing

extension EndToEnd {
    /// Frames of every size and kind, with and without compression.
    @Suite(.serialized, .timeLimit(.minutes(3))) struct FramesOfEverySize {
        private static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              drill: {path: drill.so}
              echo: {path: libEcho.so}
            routes:
              - {vaddr: plain, plugin: drill}
              - {vaddr: packed, plugin: drill, compression: true}
              - {vaddr: echo-plain, plugin: echo}
              - {vaddr: echo-packed, plugin: echo, compression: true}
            """

        private func serving(_ body: (ServedHost) async throws -> Void) async throws {
            try await ServedHost.serving(
                Self.configuration, prepare: { try ServedHost.copyBuilt("libEcho.so", to: $0) }, body)
        }

        @Test func `frames around each size boundary arrive unchanged`() async throws {
            let sizes = [0, 1, 12, 13, 65_535, 65_536, 65_537, 1 << 20]
            let kinds = Payload.Kind.allCases
            try await serving { host in
                try await host.withClient { client in
                    for vAddr in ["plain", "packed"] {
                        for way in ["append", "reserve"] {
                            let lines = sizes.flatMap { size in kinds.map { "make \(way) \($0.rawValue) \(size)" } }
                            let sources = try await client.frames(vAddr, lines.joined(separator: "\n"))
                            try #require(sources.count == lines.count)
                            for (index, frames) in sources.enumerated() {
                                let payload = Payload(kinds[index % kinds.count], size: sizes[index / kinds.count])
                                try #require(frames.count == 1)
                                let isSame = payload.isEqual(to: frames[0])
                                #expect(isSame, "\(vAddr) \(lines[index])")
                            }
                        }
                        for size in sizes {
                            for kind in kinds {
                                let payload = Payload(kind, size: size)
                                let sources = try await client.sources("echo-" + vAddr, payload.bytes)
                                let frames = try await #require(sources.first).frames.all()
                                try #require(frames.count == 1)
                                let isSame = payload.isEqual(to: frames[0])
                                #expect(isSame, "echo \(vAddr) \(kind) \(size)")
                            }
                        }
                    }
                }
            }
        }

        /// A frame that begins with the lz4 mark must be sent as a block. At the size limit, a block of random bytes is
        /// too large, so the host refuses that frame.
        @Test(arguments: ["plain", "packed"])
        func `frames at the size limit arrive unchanged`(vAddr: String) async throws {
            let size = 100 << 20
            try await serving { host in
                try await host.withClient { client in
                    for (way, kind) in [
                        ("append", Payload.Kind.random), ("reserve", .text), ("append", .markedText),
                    ] {
                        let frames = try await client.frames(vAddr, "make \(way) \(kind.rawValue) \(size)")
                        try #require(frames.map(\.count) == [1])
                        let isSame = Payload(kind, size: size).isEqual(to: frames[0][0])
                        #expect(isSame, "\(vAddr) \(way) \(kind)")
                    }
                    let refused = try await failure(of: { try await client.frames(vAddr, "make append marked \(size)") }
                    )
                    #expect(refused.code == .sourceFailed)
                    #expect(refused.message.contains("the sink answered -5"), "\(refused)")
                }
            }
        }

        @Test func `a body at the size limit comes back unchanged`() async throws {
            let payload = Payload(.random, size: 100 << 20)
            try await serving { host in
                try await host.withClient { client in
                    let source = try #require(try await client.sources("echo-plain", payload.bytes).first)
                    let frames = try await source.frames.all()
                    try #require(frames.count == 1)
                    let isSame = payload.isEqual(to: frames[0])
                    #expect(isSame)
                }
            }
        }

        @Test(arguments: ["plain", "packed"])
        func `a frame above the size limit fails its source alone`(vAddr: String) async throws {
            try await serving { host in
                try await host.withClient { client in
                    let sources = try await client.sources(
                        vAddr, "count 500 1000\nlarge append\nlarge reserve\ncount 500 1000")
                    try #require(sources.count == 4)
                    let before = try ProcessFigures(host.process.pid).peakMemory
                    for (index, answer) in [(1, "append said -5"), (2, "reserve gave no room")] {
                        let error = try await failure(of: { try await sources[index].frames.all() })
                        #expect(error.code == .sourceFailed)
                        #expect(error.message.contains(answer), "\(error)")
                    }
                    for index in [0, 3] {
                        #expect(try version(of: await sources[index].frames.all(), count: 500, size: 1000) == 0)
                    }
                    let growth = try ProcessFigures(host.process.pid).peakMemory - before
                    #expect(growth < 32 << 10, "KiB for frames of 100 MiB that were refused")
                }
            }
        }

        @Test func `a body above the size limit is refused before it is sent`() async throws {
            try await serving { host in
                try await host.withClient { client in
                    let body = ByteBuffer(repeating: 1, count: 100 << 20 | 1)
                    let error = try await failure(of: { try await client.post("echo-plain", body) })
                    #expect(error.code == .wrongFrameSize)
                    #expect(try await client.frames("plain", "count 3 1").map(\.count) == [3])
                }
            }
        }
    }
}
