// Serves the address `shout` until SIGINT or SIGTERM. Each answer has one source with one frame: the request in upper case.

import AstraNet
import Chanserv
import ChanservAstraNet
import Logging
import ServiceLifecycle

let node = Node()
try await node.listen(host: "127.0.0.1", port: 5556)
let server = Server(multiplexer: AstraNetMultiplexer(node))
try server.serve("shout") { request in
    SourceList([Source(header: "loud", frames: [String(buffer: request.body).uppercased()])])
}
let group = ServiceGroup(
    services: [server], gracefulShutdownSignals: [.sigint, .sigterm], logger: Logger(label: "shout"))
try await group.run()
await node.shutdown()
