internal import AstraNet
internal import Glibc
package import HostConfiguration
internal import NIOConcurrencyHelpers
package import NIOCore

/// Listening sockets that another process has bound: the service manager, or the host that this one replaces.
///
/// It owns the descriptors until they are taken.
package final class InheritedListeners: Sendable {
    /// A listening socket.
    package struct Socket: Sendable {
        /// The address in the configuration of the host that bound it; `nil` if the service manager did.
        package var configured: HostAddress?
        /// The address at which it listens.
        package var bound: SocketAddress
        /// The descriptor, which is close-on-exec.
        package var descriptor: Int32

        package init(configured: HostAddress? = nil, bound: SocketAddress, descriptor: Int32) {
            self.configured = configured
            self.bound = bound
            self.descriptor = descriptor
        }
    }

    private let sockets: NIOLockedValueBox<[Socket]>

    package init(_ sockets: [Socket] = []) {
        self.sockets = NIOLockedValueBox(sockets)
    }

    deinit {
        close()
    }

    package func add(_ more: [Socket]) {
        sockets.withLockedValue { $0 += more }
    }

    /// Removes and returns the descriptor of a socket for an address of the configuration; `nil` if there is none.
    ///
    /// An address with port 0 matches a socket that had the same address in the configuration of its host.
    ///
    /// - Parameter resolved: the IP address and port of `address`.
    package func take(for address: HostAddress, at resolved: SocketAddress) -> Int32? {
        sockets.withLockedValue { sockets in
            let index =
                sockets.firstIndex { $0.configured == address } ?? sockets.firstIndex { $0.bound == resolved }
            return index.map { sockets.remove(at: $0).descriptor }
        }
    }

    /// The addresses of the sockets of the service manager that were not taken, as `ip:port`.
    package var unusedActivated: [String] {
        sockets.withLockedValue { $0.filter { $0.configured == nil }.map(\.bound.printed) }
    }

    /// Closes the sockets that were not taken.
    package func close() {
        let rest = sockets.withLockedValue { sockets in
            defer { sockets = [] }
            return sockets
        }
        for socket in rest { Glibc.close(socket.descriptor) }
    }
}

/// What a host process inherits from other processes.
package struct HostInheritance: Sendable {
    /// The sockets of the service manager; `nil` for none.
    package var sockets: InheritedListeners?
    /// Whether to take the place of the host that runs with the same control socket, if there is one.
    package var takesOver: Bool

    package init(sockets: InheritedListeners? = nil, takesOver: Bool = false) {
        self.sockets = sockets
        self.takesOver = takesOver
    }
}
