import Foundation

/// A drill plugin that ruins its process as soon as it is made use of.
struct BrokenPlugin: Sendable, Hashable, CustomStringConvertible {
    /// Where it does.
    enum Place: String, CaseIterable, Sendable {
        case constructor, create, destroy

        /// As messages name it.
        var name: String { self == .constructor ? "its constructors" : "its \(rawValue)" }
    }

    var place: Place
    var ruin: Ruin

    var description: String { "\(ruin)-in-\(place)" }

    /// What is added to the plugin's entry in a configuration.
    var config: String { place == .constructor ? "" : ", config: {\(place): \"\(ruin)\"}" }

    /// Writes its library to a path.
    func write(to path: String) throws {
        let options = place == .constructor ? ["-DRUIN_LOADING=\"\(ruin)\""] : []
        try DrillPlugin.write(try DrillPlugin.compile(options: options), to: path)
    }

    static func all(_ ruins: [Ruin]) -> [BrokenPlugin] {
        ruins.flatMap { ruin in Place.allCases.map { BrokenPlugin(place: $0, ruin: ruin) } }
    }
}
