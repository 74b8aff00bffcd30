/// Where plugins run (`isolation` in the configuration).
enum Isolation: String, CaseIterable, Sendable {
    case host, process

    /// `configuration`, which has no `defaults`, with its plugins run there.
    func applied(to configuration: String) -> String {
        "defaults: {isolation: \(rawValue)}\n\(configuration)"
    }
}
