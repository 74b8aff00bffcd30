import AstraNet
import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Opens many idle streams over one link, both ends in this process, and prints their cost in memory and time.
///
///     idle-streams [COUNT] [CONCURRENT DIALS]
let arguments = CommandLine.arguments.dropFirst().map { Int($0) }
guard arguments.count <= 2, arguments.allSatisfy({ ($0 ?? 0) > 0 }) else {
    print("usage: idle-streams [COUNT, default 1000000] [CONCURRENT DIALS, default 256]")
    exit(64)
}
let count = arguments.first.flatMap { $0 } ?? 1_000_000
let concurrentDials = arguments.dropFirst().first.flatMap { $0 } ?? 256

/// Resident memory of this process, in bytes.
func residentBytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var text = [CChar](repeating: 0, count: 256)
    guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
    let pages = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self).split(
        separator: " ")
    return (pages.count > 1 ? Int(pages[1]) ?? 0 : 0) * sysconf(Int32(_SC_PAGESIZE))
}

var configuration = NodeConfiguration()
configuration.maximumStreamsPerLink = count
configuration.maximumBacklog = count
let server = Node(configuration: configuration)
let client = Node(configuration: configuration)
let address = try await server.listen(host: "127.0.0.1", port: 0)
try await client.join(host: "127.0.0.1", port: address.port!, deadline: .now + .seconds(10))
let listener = try server.bind("idle")

let before = residentBytes()
let start = ContinuousClock.now
// Detached, because on the main actor each wait would switch back to the main thread.
let accepting = Task.detached {
    var streams: [AstraNet.MeshStream] = []
    streams.reserveCapacity(count)
    while streams.count < count { streams.append(try await listener.nextStream()) }
    return streams
}
let dialled = try await withThrowingTaskGroup(of: [AstraNet.MeshStream].self) { group in
    for worker in 0..<concurrentDials {
        group.addTask {
            var streams: [AstraNet.MeshStream] = []
            for _ in stride(from: worker, to: count, by: concurrentDials) {
                streams.append(try await client.dial("idle", deadline: .now + .seconds(60)))
            }
            return streams
        }
    }
    var all: [AstraNet.MeshStream] = []
    for try await streams in group { all += streams }
    return all
}
let accepted = try await accepting.value
let seconds = (ContinuousClock.now - start) / .seconds(1)
let held = residentBytes() - before
print("\(count) idle streams on one link, both ends in one process")
print("opened in \(seconds) s: \(Int(Double(count) / seconds)) a second")
print("\(held / 1_048_576) MiB: \(held / count / 2) bytes for each end")

// An idle stream still carries bytes.
try await dialled[count / 2].send(ByteBuffer(string: "still there"))
dialled[count / 2].finish()
var found = 0
for stream in accepted where stream.remoteAddress == dialled[count / 2].localAddress {
    if try await stream.receive(deadline: .now + .seconds(10)) == ByteBuffer(string: "still there") { found += 1 }
}
guard found == 1 else { fatalError("an idle stream did not carry bytes") }
