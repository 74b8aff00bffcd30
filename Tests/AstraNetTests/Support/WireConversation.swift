import AstraNet
import Foundation
import NIOCore
import Testing

/// A recorded conversation on one link: one op per line, in the order in which a proxy between the two nodes saw them.
struct WireConversation: Sendable, CustomTestStringConvertible {
    enum Role: String, Codable, Sendable {
        case client, server

        var other: Role { self == .client ? .server : .client }
    }

    /// One line. `dst` and `src` are `<host id in hex>:<port>`; `hex` is the whole op.
    struct Line: Codable, Sendable {
        var ms: Int
        var from: Role
        var op: String
        var dst: String
        var src: String
        var len: Int
        var hex: String
    }

    struct Recorded: Sendable {
        var from: Role
        var op: WireOp
        var bytes: [UInt8]
        var line: Line
    }

    struct Unreadable: Error {
        var file: String
        var line: Int
    }

    let name: String
    let ops: [Recorded]

    var testDescription: String { name }

    init(contentsOf url: URL) throws {
        name = url.deletingPathExtension().lastPathComponent
        let lines = try String(contentsOf: url, encoding: .utf8).split(separator: "\n")
        ops = try lines.enumerated().map { number, text in
            let line = try JSONDecoder().decode(Line.self, from: Data(text.utf8))
            guard let bytes = Self.bytes(ofHex: line.hex) else { throw Unreadable(file: url.path, line: number + 1) }
            var buffer = ByteBuffer(bytes: bytes)
            guard let op = WireOp.take(from: &buffer), buffer.readableBytes == 0 else {
                throw Unreadable(file: url.path, line: number + 1)
            }
            return Recorded(from: line.from, op: op, bytes: bytes, line: line)
        }
    }

    /// All bytes that one side sent.
    func bytes(from role: Role) -> [UInt8] {
        ops.filter { $0.from == role }.flatMap(\.bytes)
    }

    // MARK: - Files

    private static let packageRoot = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    static let fixturesFolder = packageRoot.appendingPathComponent("Tests/AstraNetTests/Fixtures")
    /// Optional conversations of real Go nodes, in a folder beside the package.
    static let sharedFolder = packageRoot.deletingLastPathComponent().appendingPathComponent("shared/wire")

    static let hasShared = FileManager.default.fileExists(atPath: sharedFolder.path)

    static let fixtures = load(fixturesFolder)
    static let shared = hasShared ? load(sharedFolder) : []

    private static func load(_ folder: URL) -> [WireConversation] {
        do {
            return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
                .filter { $0.pathExtension == "jsonl" }
                .sorted { $0.path < $1.path }
                .map(WireConversation.init(contentsOf:))
        } catch {
            fatalError("cannot read the recorded conversations in \(folder.path): \(error)")
        }
    }

    // MARK: - Hex

    private static func bytes(ofHex hex: String) -> [UInt8]? {
        let digits = Array(hex.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = nibble(digits[index]), let low = nibble(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x61...0x66: digit - 0x57
        default: nil
        }
    }

    static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}

extension Address {
    /// The address in the format of the recordings.
    var recorded: String {
        let digits = String(host.rawValue, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + ":\(port)"
    }
}
