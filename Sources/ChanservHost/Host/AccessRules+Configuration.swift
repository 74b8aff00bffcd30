package import AstraNet
package import Chanserv
package import HostConfiguration

extension AccessRules {
    /// Creates the rules of the section `access`.
    package init(_ options: AccessOptions) {
        self.init(
            identities: options.identities.map { identity in
                Identity(name: identity.name, matchers: identity.matchers.map(Matcher.init))
            },
            announce: options.announce.map { Announce(pattern: $0.vAddr, names: $0.by) }, relay: options.relay)
    }
}

extension AccessRules.Matcher {
    fileprivate init(_ matcher: AccessOptions.Matcher) {
        self.init(
            uri: matcher.uri, dns: matcher.dns, keyFingerprint: matcher.sha256, userID: matcher.userID,
            listener: matcher.listen?.description)
    }
}

extension RequestQuota {
    /// Creates the quota of a route; `nil` if it has no limit for each caller.
    package init?(_ access: RouteOptions.Access) {
        guard access.rate != nil || access.concurrent != nil else { return nil }
        self.init(
            rate: access.rate.map { rate in
                Rate(
                    requests: rate.requests, per: .seconds(rate.unit.seconds), burst: access.burst ?? rate.perSecond)
            },
            concurrent: access.concurrent)
    }
}
