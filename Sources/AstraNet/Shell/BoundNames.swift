/// The services that are bound on a node, and the node's port counter.
///
/// It has no lock. ``MeshDirectory`` owns it and uses it under its own lock.
struct BoundNames {
    /// The listeners by port.
    private var listeners: [UInt32: Listener] = [:]
    private var portsByName: [String: UInt32] = [:]
    /// The ports of listeners that are announced to one host only.
    private var scoped: [HostLink: Set<UInt32>] = [:]
    private var lastPort = Address.firstDynamicPort - 1

    var names: Set<String> { Set(portsByName.keys) }

    var allListeners: [Listener] { Array(listeners.values) }

    /// The listeners that are announced to all nodes.
    var publicListeners: [Listener] { listeners.values.filter { $0.visibility == .allNodes } }

    func contains(_ name: String) -> Bool { portsByName[name] != nil }

    func listener(on port: UInt32) -> Listener? { listeners[port] }

    /// Returns whether names are bound that are announced over `link` to one host only.
    func hasScopedNames(on link: ServiceRegistry.LinkID) -> Bool { scoped.keys.contains { $0.link == link } }

    /// Returns the next port that no listener uses.
    mutating func takePort() -> UInt32 {
        repeat {
            lastPort = lastPort == .max ? Address.firstDynamicPort : lastPort + 1
        } while listeners[lastPort] != nil
        return lastPort
    }

    mutating func add(_ listener: Listener) {
        listeners[listener.address.port] = listener
        portsByName[listener.name] = listener.address.port
        if let hostLink = listener.visibility.hostLink { scoped[hostLink, default: []].insert(listener.address.port) }
    }

    /// Removes a listener.
    ///
    /// - Returns: whether the listener was bound.
    mutating func remove(_ listener: Listener) -> Bool {
        guard listeners.removeValue(forKey: listener.address.port) != nil else { return false }
        portsByName[listener.name] = nil
        if let hostLink = listener.visibility.hostLink {
            scoped[hostLink]?.remove(listener.address.port)
            if scoped[hostLink]?.isEmpty == true { scoped[hostLink] = nil }
        }
        return true
    }

    /// Returns the listeners that are announced only to hosts for which `isIncluded` returns `true`.
    func listeners(scopedTo isIncluded: (HostLink) -> Bool) -> [Listener] {
        scoped.filter { isIncluded($0.key) }.flatMap(\.value).compactMap { listeners[$0] }
    }
}
