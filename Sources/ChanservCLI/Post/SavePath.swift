import FoundationEssentials
import NIOCore

/// The path of a saved source, relative to the folder of `--save`.
///
/// If the header is a JSON object with a `path`, as those of the Files plugin are, and that path stays in the folder,
/// it names the file. Any other source is saved as `source-N`.
package struct SavePath: Hashable, CustomStringConvertible {
    /// At least one component. None is empty, `.` or `..`.
    let components: [String]

    /// Suffix of the name of an incomplete file.
    static let partialSuffix = ".partial"
    /// Maximum length of a name and of a path in bytes on Linux.
    private static let maximumNameLength = 255
    private static let maximumPathLength = 4_096 - 1
    /// Maximum size in bytes of a header that is parsed.
    private static let maximumHeaderSize = 1 << 20

    package init(header: ByteBuffer, source: Int) {
        self = Self(header: header) ?? Self(source: source)
    }

    package init(source: Int) {
        components = ["source-\(source)"]
    }

    private init?(header: ByteBuffer) {
        struct Header: Decodable { var path: String }
        guard header.readableBytesView.first == UInt8(ascii: "{"), header.readableBytes <= Self.maximumHeaderSize,
            let path = try? JSONDecoder().decode(Header.self, from: Data(header.readableBytesView)).path
        else { return nil }  // Not an error: a header may have any format.
        self.init(untrusted: path)
    }

    /// Returns `nil` for a path that is empty, absolute, too long, or not plain names between single slashes.
    package init?(untrusted path: String) {
        let components = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let maximumLength = Self.maximumNameLength - Self.partialSuffix.utf8.count
        guard path.utf8.count <= Self.maximumPathLength,
            components.allSatisfy({ name in
                !name.isEmpty && name != "." && name != ".." && name.utf8.count <= maximumLength
                    && !name.utf8.contains(0)
            })
        else { return nil }
        self.components = components
    }

    /// The path of the file while it is incomplete.
    var partial: SavePath { SavePath(components.dropLast() + [components[components.count - 1] + Self.partialSuffix]) }

    var name: String { components[components.count - 1] }

    package var description: String { components.joined(separator: "/") }

    private init(_ components: [String]) { self.components = components }
}
