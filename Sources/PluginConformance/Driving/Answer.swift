/// The size and hash of a header or frame, enough to compare it with another one.
struct Fingerprint: Sendable, Hashable {
    let size: Int
    private let hash: Int

    init(_ bytes: UnsafeRawBufferPointer) {
        size = bytes.count
        var hasher = Hasher()
        hasher.combine(bytes: bytes)
        hash = hasher.finalize()
    }
}

/// The end of a listing or of a source.
enum Ending: Sendable, Hashable {
    case end
    case failed(status: Int32, message: String)
    /// The test stopped before the end.
    case cut
}

/// The answer to a request.
struct Answer: Sendable {
    struct Source: Sendable {
        let header: Fingerprint
        var frames: [Fingerprint] = []
        var ending = Ending.cut
    }

    /// The reply of open, if it refused the request.
    var refusal: (status: Int32, message: String)?
    var sources: [Source] = []
    /// The end of the listing of sources.
    var ending = Ending.cut

    /// Whether the listing and all sources ended by themselves.
    var isWhole: Bool { refusal != nil || (ending != .cut && sources.allSatisfy { $0.ending != .cut }) }

    /// Whether the plugin answered without an error, as far as the test read the answer.
    var isAnswered: Bool {
        func isWell(_ ending: Ending) -> Bool { if case .failed = ending { false } else { true } }
        return refusal == nil && isWell(ending) && sources.allSatisfy { isWell($0.ending) }
    }

    var frameCount: Int { sources.reduce(0) { $0 + $1.frames.count } }

    /// Returns the first difference from `other`, as far as both were read; `nil` if there is none.
    func difference(from other: Answer) -> String? {
        if (refusal == nil) != (other.refusal == nil) {
            return refusal == nil
                ? "the request is accepted instead of refused" : "the request is refused instead of accepted"
        }
        for (number, (one, two)) in zip(sources, other.sources).enumerated() {
            if let difference = one.difference(from: two) { return "source \(number): \(difference)" }
        }
        if Self.differs(sources.count, ending, other.sources.count, other.ending) {
            return "\(sources.count) sources instead of \(other.sources.count)"
        }
        return Self.difference(ending, other.ending).map { "the listing of sources \($0)" }
    }

    /// Whether one side ended with fewer elements than the other side has.
    fileprivate static func differs(_ count: Int, _ ending: Ending, _ otherCount: Int, _ otherEnding: Ending) -> Bool {
        (ending != .cut && count < otherCount) || (otherEnding != .cut && count > otherCount)
    }

    fileprivate static func difference(_ one: Ending, _ two: Ending) -> String? {
        switch (one, two) {
        case (.cut, _), (_, .cut), (.end, .end), (.failed, .failed): nil
        case (.end, .failed(_, let message)): "ends well instead of failing with '\(message)'"
        case (.failed(_, let message), .end): "fails with '\(message)' instead of ending well"
        }
    }
}

extension Answer.Source {
    func difference(from other: Answer.Source) -> String? {
        if header != other.header { return "another header (\(header.size) bytes instead of \(other.header.size))" }
        for (number, (one, two)) in zip(frames, other.frames).enumerated() where one != two {
            return "frame \(number) has \(one.size) bytes instead of \(two.size), or others"
        }
        if Answer.differs(frames.count, ending, other.frames.count, other.ending) {
            return "\(frames.count) frames instead of \(other.frames.count)"
        }
        return Answer.difference(ending, other.ending).map { "it \($0)" }
    }
}
