package import Glibc

/// Check that only root and the host's user can write the code that the host executes.
///
/// It depends only on its arguments, so tests cover every case without root rights.
package struct PluginPermissions: Sendable {
    /// User that runs the host.
    package var user: uid_t
    /// User that started the host through sudo. That user can become root anyway, and owns the plugins that they built.
    package var sudoUser: uid_t?

    package init(user: uid_t, sudoUser: uid_t? = nil) {
        self.user = user
        self.sudoUser = sudoUser
    }

    /// Permissions of the current process.
    package static var current: PluginPermissions {
        let user = geteuid()
        let sudoUser = user == 0 ? getenv("SUDO_UID").flatMap { uid_t(String(cString: $0)) } : nil
        return PluginPermissions(user: user, sudoUser: sudoUser)
    }

    /// Returns the problem with a file or folder and its remedy, or `nil` if there is none.
    ///
    /// - Parameters:
    ///   - name: name of the file or folder in the message and in the command.
    ///   - owner: owner of the file or folder.
    ///   - mode: mode bits of the file or folder.
    package func problem(with name: String, owner: uid_t, mode: mode_t) -> String? {
        guard owner == 0 || owner == user || owner == sudoUser else {
            return "\(name) belongs to user \(owner), which could replace code that runs as user \(user); "
                + "fix this with: chown \(user) '\(name)'"
        }
        guard mode & (S_IWGRP | S_IWOTH) != 0 else { return nil }
        let bits = String(mode & 0o7777, radix: 8)
        if mode & S_ISVTX != 0 {
            return "\(name) (mode \(bits)) is a folder that all users may write to; move the plugin to a private folder"
        }
        return "\(name) (mode \(bits)) is writable by users other than its owner; fix this with: chmod go-w '\(name)'"
    }
}
