// Posts a request to a host and prints the frames of every source.

import AstraNet
import Chanserv
import ChanservAstraNet

let node = Node()
try await node.join(host: "127.0.0.1", port: 5555, deadline: .now + .seconds(10))
let client = Client(multiplexer: AstraNetMultiplexer(node))
for try await source in try await client.lookupAndPost("files", body: "Plugins/Echo/*.c") {
    print("header: \(String(buffer: source.header))")
    for try await frame in source.frames {
        print(frame.string, terminator: "")
    }
}
await node.shutdown()
