import FoundationEssentials

/// Renders the mesh as one JSON object on one line:
/// `{"hosts":[{"host":"…","links":[{"address":"…","round_trip_ms":0.18}],"services":[{"direct":true,"name":"echo","routers":[]}]}]}`.
/// `round_trip_ms` is missing until a round trip was measured, and `name` if the host has none or has no direct link.
package enum MeshJSON {
    package static func render(_ picture: MeshSnapshot) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(Object(picture)), as: UTF8.self) + "\n"
        } catch {
            // Unreachable: strings, booleans, finite numbers and lists of them always encode.
            fatalError("cannot encode the mesh: \(error)")
        }
    }

    private struct Object: Encodable {
        var hosts: [Host]

        init(_ picture: MeshSnapshot) {
            hosts = picture.hosts.map { host in
                Host(
                    host: host.id, name: host.name,
                    links: host.links.map { link in
                        // Rounded to microseconds; smaller differences are noise.
                        Link(
                            address: link.address,
                            roundTrip: link.roundTrip.map { ($0 / .microseconds(1)).rounded() / 1_000 })
                    },
                    services: host.services.map {
                        Service(name: $0.name, direct: $0.isDirect, routers: $0.routers)
                    })
            }
        }
    }

    private struct Host: Encodable {
        var host: String
        var name: String?
        var links: [Link]
        var services: [Service]
    }

    private struct Link: Encodable {
        var address: String
        var roundTrip: Double?

        enum CodingKeys: String, CodingKey {
            case address
            case roundTrip = "round_trip_ms"
        }
    }

    private struct Service: Encodable {
        var name: String
        var direct: Bool
        var routers: [String]
    }
}
