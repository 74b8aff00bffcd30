package import Glibc

/// Who may write what the host executes: only root and the user the host runs as.
///
/// Pure, so that every case can be tested without being root.
package struct PluginPermissions: Sendable {
    /// The user the host runs as.
    package var user: uid_t
    /// Who ran the host through sudo. That user can become root anyway, and plugins they built belong to them.
    package var sudoUser: uid_t?

    package init(user: uid_t, sudoUser: uid_t? = nil) {
        self.user = user
        self.sudoUser = sudoUser
    }

    /// This process's.
    package static var current: PluginPermissions {
        let user = geteuid()
        let sudoUser = user == 0 ? getenv("SUDO_UID").flatMap { uid_t(String(cString: $0)) } : nil
        return PluginPermissions(user: user, sudoUser: sudoUser)
    }

    /// What is wrong with a file or folder, and what would put it right; `nil` when nothing is.
    ///
    /// - Parameters:
    ///   - name: what to call it in the message and the command.
    ///   - owner: its owner.
    ///   - mode: its mode bits.
    package func problem(with name: String, owner: uid_t, mode: mode_t) -> String? {
        guard owner == 0 || owner == user || owner == sudoUser else {
            return "\(name) belongs to user \(owner), who could replace the code that runs here as user \(user); "
                + "change that with: chown \(user) '\(name)'"
        }
        guard mode & (S_IWGRP | S_IWOTH) != 0 else { return nil }
        let bits = String(mode & 0o7777, radix: 8)
        if mode & S_ISVTX != 0 {
            return "\(name) (mode \(bits)) is a folder that everybody may write to; put the plugin into one of its own"
        }
        return "\(name) (mode \(bits)) can be written by others than its owner; change that with: chmod go-w '\(name)'"
    }
}
