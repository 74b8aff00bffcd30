import NIOCore
import Testing

@testable import Chanserv

@Suite struct FrameBatchTests {
    /// As `ByteBuffer`, but without copying it first.
    private struct Zeroes: Frame {
        let count: Int

        func write(into buffer: inout ByteBuffer) {
            buffer.writeRepeatingByte(0, count: count)
        }
    }

    private func frames(_ batch: inout FrameBatch) throws -> [[UInt8]] {
        try FrameDecoder.decodeAll(batch.take()) { $0.readSlice(length: $0.readableBytes) }
    }

    private func room(in batch: inout FrameBatch, _ minimum: Int) throws -> UnsafeMutableRawBufferPointer {
        let room = batch.reserve(minimum: minimum)
        return try #require(room)
    }

    private func code(_ body: () throws(ChanservError) -> Void) -> ChanservError.Code? {
        do { try body() } catch { return error.code }
        return nil
    }

    @Test func aBatchIsFullAtItsTargetAndEmptyOnceTaken() throws {
        var batch = FrameBatch(target: 100)
        #expect(batch.isFull == false)
        try batch.append([UInt8](repeating: 1, count: 91))
        #expect(batch.isFull == false)
        try batch.append([])
        #expect(batch.isFull == true)
        _ = batch.take()
        #expect(batch.isEmpty == true)
        #expect(batch.isFull == false)
        #expect(batch.byteCount == 0)
    }

    @Test func anEmptyBatchHasRoomForAnyFrameAndAnotherOnlyBelowItsTarget() throws {
        var batch = FrameBatch(target: 100)
        #expect(batch.hasRoom(for: FrameBatch.maxFrameSize) == true)
        #expect(batch.hasRoom(for: FrameBatch.maxFrameSize + 1) == false)
        #expect(batch.hasRoom(for: -1) == false)
        try batch.append([1])
        #expect(batch.hasRoom(for: 83) == true)
        #expect(batch.hasRoom(for: 84) == false)
        let none = batch.reserve(minimum: 84)
        #expect(none == nil)
    }

    @Test(arguments: [false, true])
    func aReservationThatGrowsKeepsWhatWasWritten(compression: Bool) throws {
        var batch = FrameBatch(compression: compression)
        try batch.append([1, 2, 3])
        var size = 10
        while size < 40_000 {
            let room = try room(in: &batch, size)
            #expect(room.count >= size)
            if size > 10 { #expect(room[..<(size / 2)].allSatisfy { $0 == 42 }) }
            for index in 0..<size { room[index] = 42 }
            size *= 2
        }
        try batch.commit(size: 20_480)
        try batch.append([4])
        #expect(try frames(&batch) == [[1, 2, 3], [UInt8](repeating: 42, count: 20_480), [4]])
    }

    @Test(arguments: [false, true])
    func whatIsReservedAndNotCommittedIsDropped(compression: Bool) throws {
        var batch = FrameBatch(compression: compression)
        let first = try room(in: &batch, 100)
        first[0] = 9
        #expect(batch.isEmpty == true)
        try batch.append([1])
        _ = try room(in: &batch, 100)
        #expect(batch.count == 1)
        #expect(batch.byteCount == 9)
        #expect(try frames(&batch) == [[1]])
        _ = try room(in: &batch, 100)
        let rest = batch.take()
        #expect(rest.readableBytes == 0)
    }

    @Test(arguments: [false, true])
    func committingMoreThanWasReservedIsAnErrorAndDropsTheReservation(compression: Bool) throws {
        var batch = FrameBatch(compression: compression)
        let room = try room(in: &batch, 100)
        let tooMuch = room.count + 1
        #expect(code { () throws(ChanservError) in try batch.commit(size: tooMuch) } == .wrongFrameSize)
        #expect(code { () throws(ChanservError) in try batch.commit(size: 1) } == .wrongFrameSize)
        let rest = batch.take()
        #expect(rest.readableBytes == 0)
    }

    @Test func theLargestFrameIsTakenAndOneByteMoreIsATypedErrorThatLeavesTheBatchAsItWas() throws {
        var batch = FrameBatch()
        try batch.append([1])
        #expect(
            code { () throws(ChanservError) in try batch.append(Zeroes(count: FrameBatch.maxFrameSize + 1)) }
                == .wrongFrameSize)
        #expect(batch.count == 1)
        try batch.append(Zeroes(count: FrameBatch.maxFrameSize))
        let all = batch.take()
        #expect(all.readableBytes == 9 + 8 + FrameBatch.maxFrameSize)
    }
}
