import AstraNet
import NIOCore

/// Writes and reads small ops such as REWIND: 33 bytes each, 512 in a buffer.
func ops(_ count: Int) throws {
    let header = OpHeader(
        .rewind, to: Address(host: HostID(rawValue: 1), port: 2), from: Address(host: HostID(rawValue: 3), port: 4))
    var read = 0
    var buffer = ByteBuffer()
    for index in 0..<count {
        buffer.writeOp(header, number: 65_536)
        guard index % 512 == 511 || index == count - 1 else { continue }
        while let op = try buffer.readOp() {
            guard op.header == header else {
                throw Failure("an op that was read differs from the one that was written")
            }
            read += 1
        }
        buffer.clear()
    }
    try expect(read, count, "ops read")
}

/// The flow control of both ends of a stream for 64 KiB: queued, sent, received, taken by the application, returned as
/// credit.
func credit(_ count: Int) throws {
    let size = 65_536
    var sender = StreamState.listener(isEager: true)
    var reader = StreamState.listener(isEager: true)
    var returned = 0
    for _ in 0..<count {
        try sender.enqueue(size)
        sender.sent(sender.sendable)
        guard reader.receivedData(size) == .deliver else { throw Failure("the reader refused bytes within its window") }
        reader.took(size)
        guard reader.owesCredit(isDry: false) else {
            throw Failure("the reader owes no credit for the bytes that it took")
        }
        let credit = reader.takeCredit()
        guard sender.receivedRewind(credit) == .doNothing else { throw Failure("the sender refused the credit") }
        returned += Int(credit)
    }
    try expect(returned, count * size, "bytes of credit")
}
