/// The services that are bound on a node, and the node's port counter.
package struct BoundNames {
    /// The listeners by port.
    private(set) var listeners: [UInt32: Listener] = [:]
    package private(set) var portsByName: [String: UInt32] = [:]
    /// The ports of listeners that are announced to one host only.
    private(set) var scoped: [NodeCore.HostLink: Set<UInt32>] = [:]
    private var lastPort = Address.firstDynamicPort - 1

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
    func listeners(scopedTo isIncluded: (NodeCore.HostLink) -> Bool) -> [Listener] {
        scoped.filter { isIncluded($0.key) }.flatMap(\.value).compactMap { listeners[$0] }
    }
}
