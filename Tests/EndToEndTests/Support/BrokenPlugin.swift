import Foundation

/// A drill plugin that ruins its process as soon as it is used.
struct BrokenPlugin: Sendable, Hashable, CustomStringConvertible {
    /// The function that ruins the process.
    enum Place: String, CaseIterable, Sendable {
        case constructor, create, destroy

        /// The name in messages of the host.
        var name: String { self == .constructor ? "its constructors" : "its \(rawValue)" }
    }

    var place: Place
    var ruin: Ruin

    var description: String { "\(ruin)-in-\(place)" }

    /// The text to add to the entry of the plugin in a configuration.
    var config: String { place == .constructor ? "" : ", config: {\(place): \"\(ruin)\"}" }

    /// Writes the library of the plugin to a path.
    func write(to path: String) throws {
        let options = place == .constructor ? ["-DRUIN_LOADING=\"\(ruin)\""] : []
        try DrillPlugin.write(try DrillPlugin.compile(options: options), to: path)
    }

    static func all(_ ruins: [Ruin]) -> [BrokenPlugin] {
        ruins.flatMap { ruin in Place.allCases.map { BrokenPlugin(place: $0, ruin: ruin) } }
    }
}
