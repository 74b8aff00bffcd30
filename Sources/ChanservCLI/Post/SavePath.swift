import FoundationEssentials
import NIOCore

/// Where below the folder of `--save` a source goes.
///
/// A header that is a JSON object with a `path` (the Files plugin's are) names the file, if that path cannot lead
/// anywhere else; every other source becomes `source-N`.
struct SavePath: Hashable, CustomStringConvertible {
    /// At least one, none of which is empty, `.` or `..`.
    let components: [String]

    /// What the name of a file has while it is not complete.
    static let partialSuffix = ".partial"
    /// What file systems take.
    private static let longestName = 255
    private static let longestPath = 4_096 - 1
    /// Larger headers are not looked into.
    private static let largestHeader = 1 << 20

    init(header: ByteBuffer, source: Int) {
        self = Self(header: header) ?? Self(source: source)
    }

    init(source: Int) {
        components = ["source-\(source)"]
    }

    private init?(header: ByteBuffer) {
        struct Header: Decodable { var path: String }
        guard header.readableBytesView.first == UInt8(ascii: "{"), header.readableBytes <= Self.largestHeader,
            let path = try? JSONDecoder().decode(Header.self, from: Data(header.readableBytesView)).path
        else { return nil }  // A header of another kind is no error: it just has no name to offer.
        self.init(untrusted: path)
    }

    /// `nil` for a path that is empty, absolute, too long, or not plain names between single slashes.
    init?(untrusted path: String) {
        let components = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let roomForSuffix = Self.longestName - Self.partialSuffix.utf8.count
        guard path.utf8.count <= Self.longestPath,
            components.allSatisfy({ name in
                !name.isEmpty && name != "." && name != ".." && name.utf8.count <= roomForSuffix
                    && !name.utf8.contains(0)
            })
        else { return nil }
        self.components = components
    }

    /// The file while it is not complete.
    var partial: SavePath { SavePath(components.dropLast() + [components[components.count - 1] + Self.partialSuffix]) }

    var name: String { components[components.count - 1] }

    var description: String { components.joined(separator: "/") }

    private init(_ components: [String]) { self.components = components }
}
