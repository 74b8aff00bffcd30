/// A path to a host: the host and the link over which it is reached.
struct HostLink: Hashable, Sendable {
    var host: HostID
    var link: ServiceRegistry.LinkID
}
