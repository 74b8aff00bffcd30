internal import AstraNet

/// The link between a host and one of its workers: a network of these two, of which a plugin may have taken over one.
enum WorkerLink {
    /// Either end's node: a server, for those make no links because somebody tells them where others are (FOLLOW); and there is
    /// one link, whoever else may come.
    static var configuration: NodeConfiguration {
        var configuration = NodeConfiguration()
        configuration.role = .server
        configuration.maximumLinks = 1
        return configuration
    }
}
