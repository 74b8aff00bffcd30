/// What a reload is made for.
enum ReloadCause: Sendable {
    /// An operator asked for it.
    case request
    /// The drop-in folder has changed. Only the drop-ins are read. Rejected drop-ins that are the same as before are
    /// not tried again.
    case folder
}
