import AstraNet
import NIOConcurrencyHelpers

/// The end of a stream at a ``GoLikePeer``. It reads, writes and closes as Go's `net.Conn` does.
final class GoLikeStream: Sendable {
    /// The peer sent FIN1. A write in Go returns `io.EOF` then.
    struct StoppedByPeer: Error {}
    struct LinkGone: Error {}

    let local: Address
    let remote: Address
    private let peer: GoLikePeer
    private let storage = NIOLockedValueBox(Storage())
    private let readable = EventQueue<Void>()
    private let writable = EventQueue<Void>()

    private struct Storage {
        var unread: [UInt8] = []
        /// Bytes received whose REWIND has not been sent.
        var outstanding = 0
        var inFlight = 0
        var window = 65_536
        var mayWrite = false
        var finished = false
        var stopped = false
        var closed = false
    }

    init(local: Address, remote: Address, peer: GoLikePeer) {
        self.local = local
        self.remote = remote
        self.peer = peer
    }

    /// Reads 1 to `count` bytes. Returns an empty array at the end of file. Each read sends a REWIND for its bytes.
    func read(_ count: Int) async throws -> [UInt8] {
        while true {
            let bytes = storage.withLockedValue { storage -> [UInt8]? in
                guard storage.unread.isEmpty else {
                    let bytes = Array(storage.unread.prefix(count))
                    storage.unread.removeFirst(bytes.count)
                    storage.outstanding -= bytes.count
                    return bytes
                }
                return storage.finished || storage.closed ? [] : nil
            }
            if let bytes {
                if !bytes.isEmpty { send(.rewind, number: UInt32(bytes.count)) }
                return bytes
            }
            guard await readable.next() != nil else { throw LinkGone() }
        }
    }

    /// Writes all of `bytes`, in ops of at most 64 KiB and within the window.
    func write(_ bytes: [UInt8]) async throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = try storage.withLockedValue { storage -> Int in
                if storage.stopped || storage.closed { throw StoppedByPeer() }
                guard storage.mayWrite else { return 0 }
                let count = min(rest.count, storage.window - storage.inFlight, 65_536)
                storage.inFlight += max(count, 0)
                return max(count, 0)
            }
            if count > 0 {
                peer.raw.send(WireOp(.data, to: remote, from: local, payload: Array(rest.prefix(count))))
                rest = rest.dropFirst(count)
            } else {
                guard await writable.next() != nil else { throw LinkGone() }
            }
        }
    }

    /// Sends FIN2 alone, as Go does.
    func close() {
        let first = storage.withLockedValue { storage in
            defer { storage.closed = true }
            return !storage.closed
        }
        if first { send(.fin2) }
    }

    private func send(_ command: Command) {
        peer.raw.send(WireOp(command, to: remote, from: local))
    }

    private func send(_ command: Command, number: UInt32) {
        peer.raw.send(WireOp(command, to: remote, from: local, number: number))
    }

    // MARK: - The link's side

    /// Allows writes: the stream is open.
    func confirmed() {
        storage.withLockedValue { $0.mayWrite = true }
        writable.append(())
    }

    /// Handles an op. Returns the rule that it breaks, or `nil`.
    func received(_ op: WireOp) -> String? {
        storage.withLockedValue { storage in
            switch op.command {
            case .data:
                if storage.finished { return "DATA after FIN2" }
                if op.payload.isEmpty { return "DATA without bytes" }
                storage.outstanding += op.payload.count
                if storage.outstanding > 65_536 { return "\(storage.outstanding) unacknowledged bytes" }
                // Go keeps a closed stream for 10 s and drops its bytes.
                if !storage.closed { storage.unread += op.payload }
                readable.append(())
            case .rewind:
                guard let count = op.number else { return "REWIND of \(op.payload.count) bytes" }
                storage.inFlight -= Int(count)
                if count == 0 { return "REWIND of 0 bytes" }
                if storage.inFlight < 0 { return "REWIND of more than was sent" }
                writable.append(())
            case .windowSize:
                guard let size = op.number else { return "WND_SIZE of \(op.payload.count) bytes" }
                storage.window = Int(size)
                writable.append(())
            case .fin1:
                storage.stopped = true
                writable.append(())
            case .fin2:
                storage.finished = true
                readable.append(())
            default: break
            }
            return nil
        }
    }

    func linkGone() {
        readable.finish()
        writable.finish()
    }
}
