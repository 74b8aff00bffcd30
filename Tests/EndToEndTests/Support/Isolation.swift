/// Where plugins run (`isolation` in the configuration).
enum Isolation: String, CaseIterable, Sendable {
    case host, process

    /// Adds this isolation to `configuration`, which must have no `defaults`.
    func applied(to configuration: String) -> String {
        "defaults: {isolation: \(rawValue)}\n\(configuration)"
    }
}
