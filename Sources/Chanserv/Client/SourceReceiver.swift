import NIOConcurrencyHelpers
import NIOCore

/// The connection of one source at the client: being dialled, read, ended.
final class SourceReceiver: Sendable {
    private enum Phase {
        /// With the reader that waits for it.
        case dialling(UnsafeContinuation<Void, Never>?)
        case open(any Connection)
        case failed(any Error)
        case ended
    }

    let frameReadTimeout: Duration?
    private let name: String
    private let onError: @Sendable (ChanservError) -> Void
    private let phase: NIOLockedValueBox<Phase>

    /// Dials `name`, which was announced on `master`, at once.
    ///
    /// The dial goes on when the source is given up: a server whose name is never fetched would keep the source until its
    /// chan accept timeout, while one that is fetched and closed is free at once.
    ///
    /// - Parameter dialled: called once, when the connection has come or will not come.
    init(
        _ name: String, from master: any Connection, _ multiplexer: any Multiplexer,
        _ configuration: Client.Configuration, dialled: @escaping @Sendable () -> Void
    ) {
        self.name = name
        frameReadTimeout = configuration.frameReadTimeout
        onError = configuration.onError
        let phase = NIOLockedValueBox(Phase.dialling(nil))
        self.phase = phase
        // The task must not hold the receiver, which is to be freed while it dials.
        Task.immediate(executorPreference: multiplexer.executor) {
            defer { dialled() }
            let arrived: Phase
            do {
                arrived = .open(
                    try await multiplexer.dial(
                        name, learntFrom: master, deadline: .now + configuration.dialTimeout))
            } catch {
                arrived = .failed(error)
            }
            let (isWanted, reader) = phase.withLockedValue { phase -> (Bool, UnsafeContinuation<Void, Never>?) in
                guard case .dialling(let reader) = phase else { return (false, nil) }
                phase = arrived
                return (true, reader)
            }
            if !isWanted, case .open(let connection) = arrived { connection.close() }
            reader?.resume()
        }
    }

    /// Ends the source at both ends.
    func cancel() {
        let before = phase.withLockedValue { phase in
            defer { phase = .ended }
            return phase
        }
        switch before {
        case .dialling(let reader): reader?.resume()
        case .open(let connection): connection.close()
        case .failed, .ended: break
        }
    }

    /// What came, waiting for it; `nil` when the server has no more. Frees the connection with the end.
    nonisolated(nonsending) func read(
        deadline: ContinuousClock.Instant?
    ) async throws(ChanservError) -> ByteBuffer? {
        do {
            let connection = try await dialled()
            let bytes = try await connection.read(deadline: deadline)
            if bytes == nil { cancel() }
            return bytes
        } catch {
            throw Self.explained(error)
        }
    }

    /// Appends to `buffer` what comes, until there are `count` more bytes; fewer when the server has no more. Frees the
    /// connection with the end.
    nonisolated(nonsending) func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws(ChanservError) -> Int {
        do {
            let connection = try await dialled()
            let came = try await connection.read(count, into: &buffer, deadline: deadline)
            if came < count { cancel() }
            return came
        } catch {
            throw Self.explained(error)
        }
    }

    private static func explained(_ error: any Error) -> ChanservError {
        switch error {
        case is CancellationError:
            // The connection is as it was; whoever was cancelled decides what becomes of it.
            ChanservError(.cancelled, "waiting for a frame", cause: error)
        case let error as ConnectionError where error.code == .deadlineExceeded:
            ChanservError(error, while: "frame read timeout")
        default:
            ChanservError(error, while: "reading a source")
        }
    }

    /// Gives the source up because of `error`, and says so.
    func failed(_ error: ChanservError) -> ChanservError {
        cancel()
        if error.code != .cancelled { onError(error) }
        return error
    }

    /// The connection, waiting until it is there. A reader that is cancelled meanwhile gives the source up.
    nonisolated(nonsending) private func dialled() async throws -> any Connection {
        while true {
            switch phase.withLockedValue({ $0 }) {
            case .open(let connection): return connection
            case .failed(let error): throw ChanservError(error, while: "fetching the source \(name)")
            case .ended: throw ChanservError(.cancelled, "the source was cancelled")
            case .dialling: await waitUntilDialled()
            }
        }
    }

    nonisolated(nonsending) private func waitUntilDialled() async {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let isOver = phase.withLockedValue { phase in
                    guard case .dialling = phase else { return true }
                    phase = .dialling(continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            cancel()
        }
    }
}
