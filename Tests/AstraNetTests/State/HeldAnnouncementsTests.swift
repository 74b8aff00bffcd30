import AstraNet
import Testing

@Suite struct HeldAnnouncementsTests {
    private static func subject(_ name: String, port: UInt32 = 9, to host: HostID = .peer) -> HeldAnnouncements.Subject
    {
        HeldAnnouncements.Subject(
            name: name, address: Address(host: HostID(rawValue: 7), port: port), destination: host)
    }

    /// All pending announcements: `+name` for an offer, `-name` for a withdrawal.
    private static func all(_ held: HeldAnnouncements) -> [String] {
        var held = held
        var all: [String] = []
        while let (subject, isOffered) = held.popFirst() { all.append((isOffered ? "+" : "-") + subject.name) }
        #expect(held.isEmpty)
        return all
    }

    private static func held(_ changes: [String]) -> HeldAnnouncements {
        var held = HeldAnnouncements()
        for change in changes {
            let subject = subject(String(change.dropFirst()))
            if change.hasPrefix("+") { held.offered(subject) } else { held.withdrawn(subject) }
        }
        return held
    }

    @Test(arguments: [
        (["+a", "-b", "+c"], ["+a", "-b", "+c"]),
        // An offer that is withdrawn while it is pending is not announced.
        (["+a", "+b", "-a"], ["+b"]), (["+a", "-a", "+a"], ["+a"]), (["+a", "-a", "+a", "-a"], []),
        // An offer that the peer knows must be withdrawn in the end.
        (["-a", "+a"], ["+a"]), (["-a", "+a", "-a"], ["-a"]), (["-a", "+a", "-a", "+a"], ["+a"]),
        (["-a", "+b", "+a"], ["+b", "+a"]),
        // A repeated change is announced once.
        (["+a", "+b", "+a"], ["+a", "+b"]), (["-a", "-a"], ["-a"]),
    ])
    func `pending changes are reduced to what the peer must learn`(changes: [String], left: [String]) {
        #expect(Self.all(Self.held(changes)) == left)
        #expect(Self.held(changes).count == left.count)
    }

    @Test func `a name at another address or for another host is announced separately`() {
        var held = HeldAnnouncements()
        held.offered(Self.subject("a"))
        held.withdrawn(Self.subject("a", port: 10))
        held.withdrawn(Self.subject("a", to: HostID(rawValue: 3)))
        #expect(held.count == 3)
    }

    @Test func `services that are offered and withdrawn while held use no memory`() {
        var held = HeldAnnouncements()
        held.offered(Self.subject("stays"))
        for index in 0..<10_000 {
            held.offered(Self.subject("\(index)"))
            held.withdrawn(Self.subject("\(index)"))
            #expect(held.places <= 66)
        }
        #expect(Self.all(held) == ["+stays"])
    }

    /// Checks random sequences of offers, withdrawals and announcements.
    @Test(arguments: 0..<50 as Range<UInt64>)
    func `a peer that receives all announcements knows exactly the offered services`(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1
        func draw(_ count: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % count
        }
        var held = HeldAnnouncements()
        var offered: Set<String> = []
        var heard: Set<String> = []
        func hear() {
            guard let (subject, isOffered) = held.popFirst() else { return }
            if isOffered { heard.insert(subject.name) } else { heard.remove(subject.name) }
        }
        for _ in 0..<1_000 {
            let name = "\(draw(12))"
            switch draw(3) {
            case 0: hear()
            case _ where offered.remove(name) != nil: held.withdrawn(Self.subject(name))
            default:
                offered.insert(name)
                held.offered(Self.subject(name))
            }
        }
        while !held.isEmpty { hear() }
        #expect(heard == offered)
    }
}
