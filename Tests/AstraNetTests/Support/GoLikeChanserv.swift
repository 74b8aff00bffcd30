import AstraNet

/// A source with its header and frames, as plain bytes.
struct PlainSource: Hashable, Sendable {
    var header: [UInt8] = []
    var frames: [[UInt8]] = []
}

/// The chanserv protocol as the Go package implements it, over a ``GoLikePeer``.
extension GoLikeStream {
    struct CutFrame: Error {}

    /// Writes a frame. Writes the length and the bytes separately, as Go does.
    func writeFrame(_ frame: [UInt8]) async throws {
        try await write((0..<8).map { UInt8(truncatingIfNeeded: frame.count >> (8 * $0)) })
        try await write(frame)
    }

    /// The next frame; `nil` at the end of file.
    func readFrame() async throws -> [UInt8]? {
        let prefix = try await readFully(8)
        if prefix.isEmpty { return nil }
        guard prefix.count == 8 else { throw CutFrame() }
        let count = prefix.reversed().reduce(0) { $0 << 8 | Int($1) }
        let frame = try await readFully(count)
        guard frame.count == count else { throw CutFrame() }
        return frame
    }

    private func readFully(_ count: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try await read(count - bytes.count)
            if more.isEmpty { break }
            bytes += more
        }
        return bytes
    }

    /// All frames up to the end of file.
    func readFrames() async throws -> [[UInt8]] {
        var frames: [[UInt8]] = []
        while let frame = try await readFrame() { frames.append(frame) }
        return frames
    }
}

extension GoLikePeer {
    struct NotAnswered: Error {}

    /// Posts a request and reads all sources at the same time.
    func post(_ vAddr: String, _ body: [UInt8]) async throws -> [PlainSource] {
        guard let master = await dial(vAddr) else { throw NotAnswered() }
        try await master.writeFrame(body)
        return try await withThrowingTaskGroup(of: (Int, [[UInt8]]).self) { group in
            var sources: [PlainSource] = []
            while let header = try await master.readFrame() {
                guard let name = try await master.readFrame() else { throw CutAnswer() }
                let index = sources.count
                sources.append(PlainSource(header: header))
                group.addTask {
                    guard let stream = await self.dial(String(decoding: name, as: UTF8.self)) else {
                        throw NotAnswered()
                    }
                    defer { stream.close() }
                    return (index, try await stream.readFrames())
                }
            }
            master.close()
            for try await (index, frames) in group { sources[index].frames = frames }
            return sources
        }
    }

    struct CutAnswer: Error {}

    /// Serves requests to `vAddr` until the link ends.
    func serve(
        _ vAddr: String, _ answer: @escaping @Sendable ([UInt8]) -> [PlainSource]
    ) async throws {
        let (_, requests) = bind(vAddr)
        try await withThrowingDiscardingTaskGroup { group in
            while let master = await requests.next() {
                group.addTask {
                    guard let body = try await master.readFrame() else { return master.close() }
                    try await withThrowingDiscardingTaskGroup { sources in
                        for source in answer(body) {
                            // Random, as in Go. A request must not withdraw the source name of another request.
                            let name = "\(self.host)-\(HostID.random())"
                            let (port, streams) = self.bind(name)
                            try await master.writeFrame(source.header)
                            try await master.writeFrame(Array(name.utf8))
                            sources.addTask {
                                let stream = await streams.next()
                                self.unbind(name, port: port)
                                guard let stream else { return }
                                defer { stream.close() }
                                do {
                                    for frame in source.frames { try await stream.writeFrame(frame) }
                                } catch is GoLikeStream.StoppedByPeer {
                                    // The client may close a source early.
                                }
                            }
                        }
                        master.close()
                    }
                }
            }
        }
    }
}
