import NIOConcurrencyHelpers
import NIOCore

/// The connection of one source at the client: being dialled, read, ended.
final class SourceReceiver: Sendable {
    private enum Phase {
        case dialling
        case open(any Connection)
        case ended
    }

    let frameReadTimeout: Duration?
    private let name: String
    private let onError: @Sendable (ChanservError) -> Void
    private let dial: Task<any Connection, any Error>
    private let phase: NIOLockedValueBox<Phase>

    /// Dials `name` at once.
    ///
    /// - Parameter dialled: called once, when the connection has come or will not come.
    init(
        _ name: String, _ multiplexer: any Multiplexer, _ configuration: Client.Configuration,
        dialled: @escaping @Sendable () -> Void
    ) {
        self.name = name
        frameReadTimeout = configuration.frameReadTimeout
        onError = configuration.onError
        let phase = NIOLockedValueBox(Phase.dialling)
        self.phase = phase
        // The task must not hold the receiver, which is to be freed while it dials.
        dial = Task {
            defer { dialled() }
            let connection = try await multiplexer.dial(
                name, bucket: nil, deadline: .now + configuration.dialTimeout)
            let wanted = phase.withLockedValue { phase -> Bool in
                guard case .dialling = phase else { return false }
                phase = .open(connection)
                return true
            }
            if !wanted {
                connection.close()
                throw CancellationError()
            }
            return connection
        }
    }

    /// Ends the source at both ends.
    func cancel() {
        let connection = phase.withLockedValue { phase -> (any Connection)? in
            defer { phase = .ended }
            if case .open(let connection) = phase { return connection }
            return nil
        }
        dial.cancel()
        connection?.close()
    }

    /// What came, waiting for it; `nil` when the server has no more. Frees the connection with the end.
    nonisolated(nonsending) func read(
        deadline: ContinuousClock.Instant?
    ) async throws(ChanservError) -> ByteBuffer? {
        do {
            let connection: any Connection
            switch phase.withLockedValue({ $0 }) {
            case .open(let open): connection = open
            case .ended: throw ChanservError(.cancelled, "the source was cancelled")
            case .dialling: connection = try await dialled()
            }
            let bytes = try await connection.read(deadline: deadline)
            if bytes == nil { cancel() }
            return bytes
        } catch let error as CancellationError {
            // The connection is as it was; whoever was cancelled decides what becomes of it.
            throw ChanservError(.cancelled, "waiting for a frame", cause: error)
        } catch let error as ConnectionError where error.code == .deadlineExceeded {
            throw ChanservError(error, while: "frame read timeout")
        } catch {
            throw ChanservError(error, while: "reading a source")
        }
    }

    /// Gives the source up because of `error`, and says so.
    func failed(_ error: ChanservError) -> ChanservError {
        cancel()
        if error.code != .cancelled { onError(error) }
        return error
    }

    private func dialled() async throws -> any Connection {
        do {
            return try await withTaskCancellationHandler {
                try await dial.value
            } onCancel: {
                dial.cancel()
            }
        } catch let error where !(error is CancellationError) {
            throw ChanservError(error, while: "fetching the source \(name)")
        }
    }
}
