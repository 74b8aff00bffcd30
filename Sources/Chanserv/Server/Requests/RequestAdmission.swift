/// Decides which clients may begin requests of a service, before the service's own limits do.
package protocol RequestAdmission: Sendable {
    /// Whether the client may call the service at all.
    func isAllowed(_ caller: Caller) -> Bool

    /// Decides about a request of a client that ``isAllowed(_:)``, and counts it.
    ///
    /// - Parameter address: the address of the client, which identifies callers without an identity.
    func admit(_ caller: Caller, from address: String, now: ContinuousClock.Instant) -> Admission
}

/// The decision about a request.
package enum Admission: Sendable {
    /// - Parameter place: ended when the request ends; `nil` if the number of concurrent requests has no limit.
    case admitted(place: (any AdmissionPlace)?)
    /// The text is for the client.
    case refused(String)
}

/// The place of a request among the concurrent requests of its client.
package protocol AdmissionPlace: AnyObject, Sendable {
    /// Gives the place to another request. Further calls do nothing. The release of the last reference does the same.
    func end()
}
