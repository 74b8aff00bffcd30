import ChanservCLI
import Testing

@testable import AstraNet

@Suite struct MeshTextTests {
    private let host = HostID(rawValue: 1)
    private let router = HostID(rawValue: 2)
    private let far = HostID(rawValue: 3)

    private var listing: MeshListing {
        func link(_ peer: HostID, _ address: String, _ roundTrip: Duration?) -> MeshListing.Link {
            MeshListing.Link(
                peer: peer, name: peer == router ? "router-1" : nil, address: address, isDialled: true,
                roundTrip: roundTrip, bufferedBytes: 0)
        }
        func service(_ name: String, _ host: HostID, via: HostID) -> MeshListing.Service {
            let offer = ServiceOffer(name: name, address: Address(host: host, port: 7), isRelayed: host != via)
            return MeshListing.Service(offer: offer, via: via)
        }
        return MeshListing(
            links: [link(host, "10.0.0.1:5555", .microseconds(184)), link(router, "[::1]:10000", nil)],
            services: [
                service("echo", host, via: host), service("echo", host, via: router), service("echo", far, via: router),
                service("bad\u{1B}name.staging", far, via: router),
            ], refused: .init())
    }

    @Test func `the table has a line per service and per linked host without services`() {
        #expect(
            MeshText.render(MeshSnapshot(listing, environment: nil)) == """
                HOST                     SERVICE                PATH                      ADDRESS        ROUND TRIP
                AAAAAAAAAAEA             echo                   direct, via AAAAAAAAAAIA  10.0.0.1:5555  0.18 ms
                AAAAAAAAAAIA (router-1)  -                      direct                    [::1]:10000    -
                AAAAAAAAAAMA             bad\\u{1B}name.staging  via AAAAAAAAAAIA          [::1]:10000    -
                AAAAAAAAAAMA             echo                   via AAAAAAAAAAIA          [::1]:10000    -

                """)
    }

    @Test func `names in the selected environment are shown without its suffix`() {
        let picture = MeshSnapshot(listing, environment: "staging")
        #expect(picture.hosts.flatMap { $0.services.map(\.name) } == ["bad\u{1B}name"])
        #expect(picture.hosts.map(\.id) == [host, router, far].map(\.description))
    }

    @Test func `the JSON object has links and services`() {
        let object = MeshJSON.render(MeshSnapshot(listing, environment: nil))
        #expect(
            object.hasPrefix(
                #"{"hosts":[{"host":"AAAAAAAAAAEA","links":[{"address":"10.0.0.1:5555","round_trip_ms":0.184}],"#
                    + #""services":[{"direct":true,"name":"echo","routers":["AAAAAAAAAAIA"]}]},"#
                    + #"{"host":"AAAAAAAAAAIA","links":[{"address":"[::1]:10000"}],"name":"router-1","services":[]},"#))
        #expect(object.hasSuffix("]}\n"))
    }

    @Test func `an empty mesh is reported`() {
        #expect(MeshText.render(MeshSnapshot(hosts: [])) == "no nodes are linked\n")
    }

    @Test(arguments: [
        (Duration.microseconds(0), "0.00 ms"), (.microseconds(9_994), "9.99 ms"), (.microseconds(12_345), "12.3 ms"),
        (.milliseconds(1_250), "1250 ms"),
    ]) func `a round-trip time has three digits`(duration: Duration, text: String) {
        #expect(MeshText.milliseconds(duration) == text)
    }

    @Test func `a picture settles when nothing changes and all links are measured`() {
        var settling = MeshSettling(quiet: .seconds(1), deadline: .seconds(10))
        let link = MeshSnapshot.Link(address: "a", roundTrip: .milliseconds(1))
        let some = MeshSnapshot(hosts: [.init(id: "a", links: [link], services: [])])
        let more = MeshSnapshot(hosts: some.hosts + [.init(id: "b", links: [], services: [])])
        var unmeasured = more
        unmeasured.hosts[0].links[0].roundTrip = nil
        let looks: [(MeshSnapshot, Duration, Duration?)] = [
            (some, .zero, .seconds(1)), (more, .seconds(1), .seconds(2)), (more, .milliseconds(1_999), .seconds(2)),
            // A link without a measured round-trip time delays settling until the deadline.
            (unmeasured, .seconds(2), .seconds(10)), (more, .seconds(2), nil),
            (some, .milliseconds(9_500), .seconds(10)),
            (more, .seconds(10), nil),
        ]
        for (picture, time, expected) in looks {
            let next = settling.nextLook(after: picture, at: time)
            #expect(next == expected, "after \(time)")
        }
    }
}
