internal import AstraNet
internal import Glibc
internal import HostConfiguration
internal import NIOCore

/// Sockets that the service manager passes to this process, such as systemd with a socket unit (sd_listen_fds(3)).
package struct SocketActivation: Sendable, Hashable {
    /// The number of sockets. Their descriptors begin with ``firstDescriptor``.
    package var count: Int
    /// The names of the sockets, in the order of the descriptors; empty if the manager gives none.
    package var names: [String]

    /// The first descriptor: 3.
    package static let firstDescriptor: Int32 = 3
    /// Maximum number of sockets.
    private static let maximumCount = 256
    private static let variables = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]

    /// - Parameters:
    ///   - variables: the environment.
    ///   - pid: id of this process.
    /// - Returns: `nil` if the variables are missing, or are meant for another process.
    /// - Throws: ``HostError`` with code `unavailable` if they are invalid.
    package init?(_ variables: [String: String], pid: Int32) throws(HostError) {
        guard let process = variables["LISTEN_PID"], process == "\(pid)", let text = variables["LISTEN_FDS"] else {
            return nil
        }
        guard let count = Int(text), (0...Self.maximumCount).contains(count) else {
            throw HostError(
                .unavailable, ["LISTEN_FDS is not a number from 0 to \(Self.maximumCount): \(quoted(text))"])
        }
        guard count > 0 else { return nil }
        self.count = count
        names =
            variables["LISTEN_FDNAMES"]?.split(separator: ":", omittingEmptySubsequences: false).map(String.init) ?? []
    }

    /// Returns the sockets that the service manager passes, and removes the variables from the environment, so that
    /// child processes do not use them. Must be called while no other thread accesses the environment.
    ///
    /// - Returns: `nil` if there are none.
    /// - Throws: ``HostError`` with code `unavailable` if one of them is not a listening TCP socket.
    package static func fromEnvironment() throws(HostError) -> InheritedListeners? {
        var variables: [String: String] = [:]
        for name in Self.variables {
            if let value = getenv(name) { variables[name] = String(cString: value) }
            unsetenv(name)
        }
        return try SocketActivation(variables, pid: getpid())?.listeners()
    }

    private func listeners() throws(HostError) -> InheritedListeners {
        var sockets: [InheritedListeners.Socket] = []
        for index in 0..<count {
            let descriptor = Self.firstDescriptor + Int32(index)
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            guard let address = SocketAddress(listening: descriptor) else {
                let name = index < names.count ? " (\(names[index]))" : ""
                throw HostError(
                    .unavailable,
                    [
                        "LISTEN_FDS: descriptor \(descriptor)\(name) is not a listening TCP socket: use only "
                            + "ListenStream= with addresses, and Accept=no, in the socket unit"
                    ])
            }
            sockets.append(InheritedListeners.Socket(bound: address, descriptor: descriptor))
        }
        return InheritedListeners(sockets)
    }
}
