/// The error of a source function or a source, or of the network.
struct SourceFuncError: Error {
    let cause: any Error
    /// Whether the network caused the error.
    let isNetworks: Bool

    init(_ cause: any Error, isNetworks: Bool = false) {
        self.cause = cause
        self.isNetworks = isNetworks
    }

    /// Whether the error counts as a failure of the server.
    var counts: Bool { (cause as? any ServingError)?.countsAsFailure ?? true }
}
