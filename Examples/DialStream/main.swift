// Opens a stream to the service `echo` of another node, sends a line and reads the answer.

import AstraNet
import NIOCore

let node = Node()
try await node.join(host: "127.0.0.1", port: 5555, deadline: .now + .seconds(10))
let stream = try await node.dial("echo", deadline: .now + .seconds(10))
try await stream.send(ByteBuffer(string: "hello"))
stream.finish()
while let bytes = try await stream.receive(deadline: .now + .seconds(10)) {
    print(String(buffer: bytes), terminator: "")
}
await node.shutdown()
