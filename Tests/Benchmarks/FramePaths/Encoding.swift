import Chanserv
import NIOCore

/// The payload of all small frames: 64 bytes.
let smallPayload = [UInt8](repeating: 0x5A, count: 64)

/// Copies small frames into batches of 64 KiB, as `append(copying:)` of a plugin's frame sink does.
func encode(_ count: Int) throws {
    var batch = FrameBatch()
    var bytes = 0
    try smallPayload.withUnsafeBytes { payload in
        for _ in 0..<count {
            try batch.append(copying: payload)
            if batch.isFull { bytes += batch.take().readableBytes }
        }
    }
    bytes += batch.take().readableBytes
    try expect(bytes, count * (8 + smallPayload.count), "bytes encoded")
}

/// Writes small frames into reserved space, as a producer that does not know their length in advance does.
func encodeReserved(_ count: Int) throws {
    var batch = FrameBatch()
    var bytes = 0
    try smallPayload.withUnsafeBytes { payload in
        for _ in 0..<count {
            if let room = batch.reserve(minimum: payload.count) {
                room.copyMemory(from: payload)
                try batch.commit(size: payload.count)
            } else {
                bytes += batch.take().readableBytes
                guard let room = batch.reserve(minimum: payload.count) else { throw Failure("an empty batch is full") }
                room.copyMemory(from: payload)
                try batch.commit(size: payload.count)
            }
        }
    }
    bytes += batch.take().readableBytes
    try expect(bytes, count * (8 + smallPayload.count), "bytes encoded")
}
