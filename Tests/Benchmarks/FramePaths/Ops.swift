import AstraNet
import NIOCore

/// Small ops written and read again, as credit is: 33 bytes each, in buffers of some hundreds of them.
func ops(_ count: Int) throws {
    let header = OpHeader(
        .rewind, to: Address(host: HostID(rawValue: 1), port: 2), from: Address(host: HostID(rawValue: 3), port: 4))
    var read = 0
    var buffer = ByteBuffer()
    for index in 0..<count {
        buffer.writeOp(header, number: 65_536)
        guard index % 512 == 511 || index == count - 1 else { continue }
        while let op = try buffer.readOp() {
            guard op.header == header else { throw Failure("another op was read than written") }
            read += 1
        }
        buffer.clear()
    }
    try expect(read, count, "ops read")
}

/// What the two ends of a stream count for 64 KiB: queued, sent, received, taken, and given back as credit.
func credit(_ count: Int) throws {
    let size = 65_536
    var sender = StreamState.listener(isEager: true)
    var reader = StreamState.listener(isEager: true)
    var given = 0
    for _ in 0..<count {
        try sender.enqueue(size)
        sender.sent(sender.sendable)
        guard reader.receivedData(size) == .deliver else { throw Failure("what was sent was not received") }
        reader.took(size)
        guard reader.owesCredit(isDry: false) else { throw Failure("what was taken is not owed") }
        let credit = reader.takeCredit()
        guard sender.receivedRewind(credit) == .doNothing else { throw Failure("credit was refused") }
        given += Int(credit)
    }
    try expect(given, count * size, "bytes of credit")
}
