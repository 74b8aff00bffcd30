import Glibc

/// The expected content of the Load plugin's frames.
///
/// `Plugins/Load/content.h` defines the content. A test compares this implementation with the plugin's.
package struct LoadContent: Sendable {
    private static let blockSize = 1 << 20

    let kind: LoadKind
    /// Whether the frames belong to a request with ``LoadRequest/lends``. Such frames all begin at the start of the
    /// block.
    let lends: Bool
    /// The bytes that frames repeat after their heads.
    private let block: [UInt8]

    package init(_ kind: LoadKind, lends: Bool = false) {
        self.kind = kind
        self.lends = lends
        switch kind {
        case .zero: block = Array(repeating: 0, count: Self.blockSize)
        case .text: block = Self.textBlock()
        case .random, .magic: block = Self.randomBlock()
        }
    }

    /// Returns whether `frame` has the content of frame `number` of source `source` at its size.
    package func matches(_ frame: UnsafeRawBufferPointer, source: Int, number: Int) -> Bool {
        guard let start = frame.baseAddress else { return true }
        return withUnsafeTemporaryAllocation(byteCount: Self.headMax, alignment: 1) { head in
            var done = min(writeHead(source: UInt64(source), number: UInt64(number), to: head), frame.count)
            guard memcmp(start, head.baseAddress!, done) == 0 else { return false }
            var at = (offset(source: UInt64(source), number: UInt64(number)) + done) % Self.blockSize
            return block.withUnsafeBytes { block in
                while done < frame.count {
                    let part = min(block.count - at, frame.count - done)
                    guard memcmp(start + done, block.baseAddress! + at, part) == 0 else { return false }
                    done += part
                    at = 0
                }
                return true
            }
        }
    }

    private static let headMax = 20

    /// Writes the head of a frame and returns its length in bytes.
    private func writeHead(source: UInt64, number: UInt64, to head: UnsafeMutableRawBufferPointer) -> Int {
        switch kind {
        case .zero: return 0
        case .text:
            for (offset, value) in [(0, source), (8, number)] {
                for place in 0..<8 {
                    let digit = UInt8(value >> UInt64(28 - 4 * place) & 15)
                    head[offset + place] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
                }
            }
            return 16
        case .random, .magic:
            let mark = kind == .magic ? 4 : 0
            if kind == .magic { head.copyBytes(from: "lz4!".utf8) }
            head.storeBytes(of: source.littleEndian, toByteOffset: mark, as: UInt64.self)
            head.storeBytes(of: number.littleEndian, toByteOffset: mark + 8, as: UInt64.self)
            return mark + 16
        }
    }

    private func offset(source: UInt64, number: UInt64) -> Int {
        if lends { return 0 }
        let mixed = source &* 0x9E37_79B9_7F4A_7C15 &+ number &* 0xC2B2_AE3D_27D4_EB4F
        return Int(mixed >> 50) * 64
    }

    // MARK: The blocks

    private static func randomBlock() -> [UInt8] {
        var random = SplitMix(state: 0x6368_616E_7365_7276)
        return Array(unsafeUninitializedCapacity: blockSize) { block, count in
            let bytes = UnsafeMutableRawBufferPointer(block)
            for offset in stride(from: 0, to: blockSize, by: 8) {
                bytes.storeBytes(of: random.next().littleEndian, toByteOffset: offset, as: UInt64.self)
            }
            count = blockSize
        }
    }

    private static let levels = ["info", "info", "debug", "warning"]
    private static let services = ["quotes", "orders", "files", "ledger", "router", "mailer", "archive", "session"]
    private static let messages = [
        "request accepted and handed over to the next free worker",
        "request served from the cache, nothing was fetched",
        "connection closed by the other side after the last frame",
        "connection opened, waiting for the first request to arrive",
        "the snapshot was written and the older one was removed",
        "the queue is half full, readers are slower than writers",
        "a client asked for a source that does not exist any more",
        "retrying after a pause, the other side did not answer in time",
        "user signed in from a device that was seen before",
        "user signed out, the session and its streams were closed",
        "the configuration was read again, nothing had changed",
        "checksum of the uploaded file matches what was announced",
        "the order was filled in full at the price of the last quote",
        "the order was rejected, the account has no such position",
        "the nightly export has begun and will take some minutes",
        "latency of the last hundred requests is within the budget",
    ]

    private static func textBlock() -> [UInt8] {
        var random = SplitMix(state: 0x6C6F_6164)
        var block: [UInt8] = []
        block.reserveCapacity(blockSize + 256)
        var time = 0
        while block.count < blockSize {
            let value = random.next()
            let clock =
                "\(padded(time / 3_600_000 % 24, 2)):\(padded(time / 60_000 % 60, 2))"
                + ":\(padded(time / 1_000 % 60, 2)).\(padded(time % 1_000, 3))"
            let line =
                "2026-01-31T\(clock)Z \(levels[Int(value & 3)]) \(services[Int(value >> 8 & 7)]): "
                + "\(messages[Int(value >> 16 & 15)]) id=\(hexadecimal(Int(value >> 32))) ms=\(value >> 24 & 255)\n"
            block += line.utf8
            time += 137
        }
        return Array(block.prefix(blockSize))
    }
}

/// The pseudo-random generator splitmix64.
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

/// Returns `value` as eight hexadecimal digits.
private func hexadecimal(_ value: Int) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
}

private func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}
