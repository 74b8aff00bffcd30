/// What a reload is made for.
enum ReloadCause: Sendable, Hashable {
    /// An operator asked for it. A forced one serves versions again from which routes have returned.
    case request(isForced: Bool)
    /// The drop-in folder has changed. Only the drop-ins are read. Rejected drop-ins that are the same as before are
    /// not tried again.
    case folder

    var isForced: Bool { self == .request(isForced: true) }

    /// Returns the cause of one reload for both.
    func combined(with other: ReloadCause) -> ReloadCause {
        switch (self, other) {
        case (.folder, _): other
        case (_, .folder): self
        case (.request(let a), .request(let b)): .request(isForced: a || b)
        }
    }
}
