import ChanservHost

/// What `chanserv mesh` was asked for.
struct MeshRequest: Sendable {
    /// The nodes to join, at least one; it takes one of them to answer.
    var joins: [HostAddress]
    /// Only names of it; `nil` for all.
    var environment: String?
    /// Whether to show every change until a signal comes.
    var watches: Bool
    var format: MeshFormat
    /// For joining and settling together.
    var timeout: Duration
}

/// How the mesh is written to standard output.
enum MeshFormat: String, Sendable, CaseIterable {
    case text, json

    func render(_ picture: MeshPicture) -> String {
        switch self {
        case .text: MeshText.render(picture)
        case .json: MeshJSON.render(picture)
        }
    }
}
