import HostConfiguration

/// The command-line options of `chanserv mesh`.
struct MeshRequest: Sendable {
    /// The nodes to join, at least one. One successful join is enough.
    var joins: JoinTargets
    /// The environment whose names are shown; `nil` for all names.
    var environment: String?
    /// Whether to show every change until a stop signal.
    var watches: Bool
    var format: MeshFormat
    /// Time limit for joining and settling together.
    var timeout: Duration
}

/// The output format of `chanserv mesh`.
enum MeshFormat: String, Sendable, CaseIterable {
    case text, json

    func render(_ picture: MeshSnapshot) -> String {
        switch self {
        case .text: MeshText.render(picture)
        case .json: MeshJSON.render(picture)
        }
    }
}
