internal import AstraNet

/// Link between a host and one of its workers. The two nodes form a network of their own. A plugin may have compromised
/// the worker's node.
enum WorkerLink {
    /// Configuration of both nodes. The role is server, because a server opens no links when it receives FOLLOW
    /// (`docs/protocol.md` §3). There is only one link.
    static var configuration: NodeConfiguration {
        var configuration = NodeConfiguration()
        configuration.role = .server
        configuration.maximumLinks = 1
        return configuration
    }

    /// Size of the memory shared for the worker's frames, in bytes: 1 MiB, so that it stays in the processor's caches.
    static let sharedSize = 1 << 20

    /// - Returns: `nil` if the memory is not available. All frames then travel over the link.
    static func memory(of descriptor: Int32, _ use: SharedMemory.Use) -> SharedMemory? {
        do throws(AstraNetError) {
            return try SharedMemory(descriptor: descriptor, use: use)
        } catch {
            return nil
        }
    }
}
