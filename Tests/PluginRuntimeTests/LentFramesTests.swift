import CChanservPlugin
import Glibc
import NIOCore
import NIOPosix
import PluginRuntime
import Synchronization
import TestSupport
import Testing

@Suite("Lent frames", .timeLimit(.minutes(1)))
struct LentFramesTests {
    /// Memory of a plugin, with a count of the releases of each lease.
    private final class Memory: Sendable {
        struct Released: Sendable {
            var counts: [Int: Int] = [:]
            var threads: [Int: UInt] = [:]
            /// The leases that were released on a thread of the plugin's executor.
            var onExecutor: Set<Int> = []
        }

        final class Argument: Sendable {
            let memory: Memory
            let number: Int
            let executor: any PluginExecutor

            init(_ memory: Memory, _ number: Int, _ executor: any PluginExecutor) {
                self.memory = memory
                self.number = number
                self.executor = executor
            }
        }

        nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer
        let released = Mutex(Released())

        init(_ size: Int) {
            bytes = .allocate(byteCount: size, alignment: 64)
            for index in 0..<size { bytes[index] = UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8) }
        }

        deinit { bytes.deallocate() }

        /// Lends `range` as the lease `number`.
        func lend(_ range: Range<Int>, _ number: Int, _ context: PluginContext) -> [ByteBuffer]? {
            let argument = Unmanaged.passRetained(Argument(self, number, context.executor))
            let buffers = context.lent.lend(
                bytes.baseAddress! + range.lowerBound, size: range.count, context: context,
                release: { argument in
                    let argument = Unmanaged<Argument>.fromOpaque(argument!).takeUnretainedValue()
                    argument.memory.released.withLock {
                        $0.counts[argument.number, default: 0] += 1
                        $0.threads[argument.number] = UInt(pthread_self())
                        if argument.executor.isCurrent { $0.onExecutor.insert(argument.number) }
                    }
                }, argument: argument.toOpaque())
            if buffers == nil { argument.release() }
            return buffers
        }

        var counts: [Int: Int] { released.withLock { $0.counts } }
    }

    private let host: ProbeHost

    init() throws { host = try ProbeHost() }

    private func context(flags: String = "0", limit: Int = LentFrames.bytesLimit) async throws -> PluginContext {
        var configuration = PluginInstance.Configuration()
        configuration.lentBytesLimit = limit
        let descriptor = try await host.store.load(try host.compile(flags: flags)).descriptor
        return PluginContext(
            name: "lender", descriptor: descriptor, executor: host.threads, logger: host.log.logger,
            configuration: configuration)
    }

    /// Ends lending and waits until all leases are released. Nothing can be lent afterwards.
    private func released(_ context: PluginContext) async {
        context.lent.end()
        #expect(await context.lent.allReturned.wait(until: .now + .seconds(50)))
        #expect(context.lentFrames == 0)
        #expect(context.lentBytes == 0)
    }

    private func address(_ buffer: ByteBuffer) -> UnsafeRawPointer? {
        buffer.withUnsafeReadableBytes { $0.baseAddress }
    }

    @Test func `a lent buffer is plugin memory and is released once when its last slice is dropped`() async throws {
        let context = try await context()
        let memory = Memory(100_000)
        var buffers = try #require(memory.lend(10..<90_010, 1, context))
        #expect(buffers.count == 1)
        #expect(address(buffers[0]) == UnsafeRawPointer(memory.bytes.baseAddress! + 10))
        #expect(buffers[0].readableBytesView.elementsEqual(memory.bytes[10..<90_010]))
        #expect(context.lentFrames == 1)
        #expect(context.lentBytes == 90_000)
        var slices = [try #require(buffers[0].getSlice(at: 89_990, length: 10))]
        #expect(address(slices[0]) == UnsafeRawPointer(memory.bytes.baseAddress! + 90_000))
        buffers = []
        context.lent.end()
        #expect(!context.lent.allReturned.hasHappened)
        #expect(memory.counts == [:])
        slices = []
        await released(context)
        #expect(memory.counts == [1: 1])
    }

    @Test func `leases on the same memory end independently of each other`() async throws {
        let context = try await context()
        let other = try await self.context()
        let memory = Memory(50_000)
        var buffers: [Int: [ByteBuffer]] = [:]
        for number in 0..<300 {
            // The leases have the same start and different sizes. Every other one belongs to another instance.
            let size = 8_192 + number
            buffers[number] = try #require(memory.lend(0..<size, number, number % 2 == 0 ? context : other))
        }
        for number in 0..<300 where number % 3 != 0 { buffers[number] = nil }
        for number in 0..<300 where number % 3 == 0 {
            let buffer = try #require(buffers[number]?.first)
            #expect(buffer.readableBytesView.elementsEqual(memory.bytes[0..<(8_192 + number)]))
        }
        // Exactly the dropped leases are released, in any order.
        let expected = Dictionary(uniqueKeysWithValues: (0..<300).filter { $0 % 3 != 0 }.map { ($0, 1) })
        try await eventually { context.lentFrames + other.lentFrames <= 100 }
        #expect(memory.counts == expected)
        buffers = [:]
        await released(context)
        await released(other)
        #expect(memory.counts == Dictionary(uniqueKeysWithValues: (0..<300).map { ($0, 1) }))
    }

    @Test func `a large frame is lent in pieces of plugin memory and released once`() async throws {
        let context = try await context()
        let size = 20 << 20
        let memory = Memory(size)
        var buffers = try #require(memory.lend(0..<size, 1, context))
        #expect(buffers.map(\.readableBytes) == [8 << 20, 8 << 20, 4 << 20])
        var offset = 0
        for buffer in buffers {
            let last = try #require(buffer.getSlice(at: buffer.readableBytes - 1, length: 1))
            #expect(address(last) == UnsafeRawPointer(memory.bytes.baseAddress! + offset + buffer.readableBytes - 1))
            offset += buffer.readableBytes
        }
        buffers.removeLast()
        buffers.removeFirst()
        #expect(context.lentFrames == 1)
        #expect(memory.counts == [:])
        buffers = []
        await released(context)
        #expect(memory.counts == [1: 1])
    }

    @Test func `a copy-on-write copy of a lent buffer is an ordinary buffer`() async throws {
        let context = try await context()
        let memory = Memory(10_000)
        let before = Array(memory.bytes)
        var buffers = try #require(memory.lend(0..<10_000, 1, context))
        // A write while another reference exists makes NIO copy with the allocator of the lent buffer.
        var copy = buffers[0]
        copy.setInteger(UInt64.max, at: 0)
        copy.writeRepeatingByte(1, count: 100_000)
        // The only reference grows the buffer.
        var second = buffers.removeFirst()
        second.writeRepeatingByte(2, count: 10)
        #expect(Array(memory.bytes) == before)
        await released(context)
        #expect(memory.counts == [1: 1])
        #expect(second.readableBytesView.elementsEqual(before + [UInt8](repeating: 2, count: 10)))
        #expect(copy.readableBytes == 110_000)
        #expect(copy.getInteger(at: 8, as: UInt8.self) == before[8])
        copy.clear(minimumCapacity: 1 << 20)
        #expect(copy.storageCapacity >= 1 << 20)
    }

    @Test func `growing a lent buffer in place copies it and ends the lease`() async throws {
        let context = try await context()
        let memory = Memory(10_000)
        let before = Array(memory.bytes)
        var buffer = try #require(memory.lend(0..<10_000, 1, context)?.first)
        buffer.reserveCapacity(3 << 20)
        #expect(address(buffer) != UnsafeRawPointer(memory.bytes.baseAddress!))
        #expect(buffer.readableBytesView.elementsEqual(before))
        // This is the only call that makes NIO reallocate the whole storage. The content is lost.
        var cleared = try #require(memory.lend(0..<10_000, 2, context)?.first)
        cleared.clear(minimumCapacity: 3 << 20)
        cleared.writeRepeatingByte(3, count: 3 << 20)
        #expect(Array(memory.bytes) == before)
        await released(context)
        #expect(memory.counts == [1: 1, 2: 1])
    }

    @Test func `lending stops at the byte limit and after the end`() async throws {
        let context = try await context(limit: 30_000)
        let memory = Memory(40_000)
        var first = memory.lend(0..<10_000, 1, context)
        let second = memory.lend(0..<20_000, 2, context)
        #expect(first != nil && second != nil)
        #expect(memory.lend(0..<8_192, 3, context) == nil)
        #expect(context.lentBytes == 30_000)
        first = nil
        try await eventually { context.lentFrames <= 1 }
        #expect(memory.lend(0..<10_001, 4, context) == nil)
        var last = memory.lend(0..<10_000, 5, context)
        #expect(last != nil)
        last = nil
        context.lent.end()
        #expect(memory.lend(0..<8_192, 6, context) == nil)
        #expect(!context.lent.allReturned.hasHappened)
        withExtendedLifetime(second) {}
    }

    @Test func `a limit of zero lends nothing, and an end without leases completes at once`() async throws {
        let context = try await context(limit: 0)
        #expect(Memory(8_192).lend(0..<8_192, 1, context) == nil)
        context.lent.end()
        #expect(context.lent.allReturned.hasHappened)
    }

    @Test func `a release runs on a thread of the plugin and never inside the drop of the buffer`() async throws {
        let context = try await context()
        let memory = Memory(10_000)
        let dropped = Mutex(memory.lend(0..<10_000, 1, context))
        let inPlace = dropped.withLock { buffers in
            buffers = nil
            // The buffer is dropped under a lock. A release must not run under it.
            return memory.released.withLock { $0.threads[1] == UInt(pthread_self()) }
        }
        #expect(!inPlace)
        await released(context)
        #expect(memory.released.withLock { $0.onExecutor } == [1])
    }

    @Test func `the release of an inline plugin is a later task of the event loop that drops the buffer`()
        async throws
    {
        let context = try await context(flags: "CHANSERV_PLUGIN_INLINE")
        let memory = Memory(10_000)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let dropped = Mutex(memory.lend(0..<10_000, 1, context))
        let loop = group.next()
        let (thread, countInPlace) = try await loop.submit {
            dropped.withLock { $0 = nil }
            return (UInt(pthread_self()), memory.counts[1])
        }.get()
        #expect(countInPlace == nil)
        // The event loop runs tasks in the order of their submission.
        let threads = try await loop.submit { memory.released.withLock { $0.threads } }.get()
        #expect(threads == [1: thread])
        await released(context)
        // Outside of an event loop the release runs on the executor of the plugin.
        let elsewhere = try await self.context(flags: "CHANSERV_PLUGIN_INLINE")
        _ = memory.lend(0..<10_000, 2, elsewhere)
        await released(elsewhere)
        #expect(memory.released.withLock { $0.onExecutor } == [2])
        try await group.shutdownGracefully()
    }

    @Test func `buffers dropped on many threads are each released once`() async throws {
        let context = try await context()
        let memory = Memory(20_000)
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for index in 0..<500 {
                        let number = task * 500 + index
                        guard let buffers = memory.lend(number % 7..<10_000 + number, number, context) else {
                            // The limit is reached: the host would copy the frame.
                            memory.released.withLock { $0.counts[number] = 1 }
                            continue
                        }
                        let slice = buffers[0].getSlice(at: 100, length: 100)
                        await Task.yield()
                        withExtendedLifetime(slice) {}
                    }
                }
            }
        }
        await released(context)
        #expect(memory.counts == Dictionary(uniqueKeysWithValues: (0..<4_000).map { ($0, 1) }))
    }
}
