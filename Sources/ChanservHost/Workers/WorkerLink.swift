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

    /// How much memory the two share for the frames that the worker has made, in bytes: as much as stays in a processor's caches.
    static let sharedSize = 1 << 20

    /// - Returns: `nil` where it cannot be had; then all frames go over the link.
    static func memory(of descriptor: Int32, _ use: SharedMemory.Use) -> SharedMemory? {
        do throws(AstraNetError) {
            return try SharedMemory(descriptor: descriptor, use: use)
        } catch {
            return nil
        }
    }
}
