import ChanservHost
import FoundationEssentials
import Glibc
import HostConfiguration
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A client of a host's control socket (`docs/control.md`, "The protocol").
package enum ControlClient {
    /// Maximum time between two lines from the host. The host sends a progress line every second during a long command.
    private static let readTimeout = Duration.seconds(30)
    private static let connectTimeout = TimeAmount.seconds(5)
    /// Maximum length of a line in bytes. The status of thousands of routes is shorter.
    private static let maximumLineLength = 64 << 20

    /// The time limit of a command.
    enum Limit: Sendable {
        /// Only ``readTimeout``.
        case none
        /// For each line of the host, which may send one in each interval.
        case eachAnswer(Duration, interval: Duration = .zero)
        /// For the whole command.
        case total(Duration)
    }

    /// Sends `request` and calls `onProgress` with each progress line.
    ///
    /// - Returns: the result.
    /// - Throws: ``ControlFailure`` if the host cannot be reached, exits, or answers with an error; errors of
    ///   `onProgress`.
    static func ask<Progress: Codable & Sendable, Result: Codable & Sendable>(
        _ request: ControlRequest, at path: String,
        as answer: ControlAnswer<Progress, Result>.Type = ControlAnswer<Progress, Result>.self,
        within limit: Limit = .none, _ onProgress: (Progress) async throws -> Void = { _ in }
    ) async throws -> Result {
        let started = ContinuousClock.now
        let expired = NIOLockedValueBox(false)
        let channel = try await connect(to: path)
        return try await channel.executeThenClose { inbound in
            var lines = inbound.makeAsyncIterator()
            do {
                // A busy host sends an error and closes, possibly before it reads the request. Its answer takes
                // precedence over the failure of the send.
                let unsent = await sendFailure(request, channel.channel)
                while let line = try await next(
                    &lines, channel.channel, by: deadline(limit, since: started), expired)
                {
                    let answer = try JSONDecoder().decode(answer, from: Data(line.readableBytesView))
                    if let error = answer.error { throw ControlFailure(error) }
                    if let result = answer.result { return result }
                    if let progress = answer.progress { try await onProgress(progress) }
                }
                if let unsent { throw unsent }
            } catch let error as DecodingError {
                throw ControlFailure(
                    exitCode: 70,
                    ["cannot decode the answer of the host at '\(path)'; is it another version? (\(error))"])
            } catch let error as IOError {
                throw ControlFailure(exitCode: 69, ["lost the connection to the host at '\(path)': \(reason(error))"])
            } catch let error as ChannelError {
                throw ControlFailure(exitCode: 69, ["lost the connection to the host at '\(path)': \(error)"])
            }
            try Task.checkCancellation()
            guard expired.withLockedValue({ $0 }) else {
                throw ControlFailure(exitCode: 69, ["the host at '\(path)' exited before it answered"])
            }
            throw ControlFailure(
                exitCode: 69,
                ["the host at '\(path)' did not answer within \(text(limit)) (it may be stopped)"])
        }
    }

    /// Returns the time at which the wait for a line ends.
    private static func deadline(_ limit: Limit, since start: ContinuousClock.Instant) -> ContinuousClock.Instant {
        switch limit {
        case .none: .now + readTimeout
        case .eachAnswer(let time, let interval): .now + time + interval
        case .total(let time): min(start + time, .now + readTimeout)
        }
    }

    private static func text(_ limit: Limit) -> String {
        switch limit {
        case .none: ValueGrammar.text(readTimeout)
        case .eachAnswer(let time, _): ValueGrammar.text(time)
        case .total(let time): ValueGrammar.text(min(time, readTimeout))
        }
    }

    private static func connect(to path: String) async throws -> NIOAsyncChannel<ByteBuffer, Never> {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(connectTimeout)
                .connect(to: try address(path)) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let decoder = ByteToMessageHandler(ControlLineDecoder(limit: maximumLineLength))
                        try channel.pipeline.syncOperations.addHandler(decoder)
                        return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            var failure = ControlFailure(exitCode: 69, [problem(with: path, error)])
            failure.isNoHost = [ENOENT, ECONNREFUSED].contains((error as? IOError)?.errnoCode)
            throw failure
        }
    }

    private static func address(_ path: String) throws -> SocketAddress {
        guard path.systemBytes.count <= HostAddress.longestSocketPath else {
            throw SocketAddressError.unixDomainSocketPathTooLong
        }
        return SocketAddress(socketAddress(path))
    }

    /// Returns the message for a failed connection to a control socket.
    package static func problem(with path: String, _ error: any Error) -> String {
        if let error = error as? IOError, error.errnoCode == EACCES {
            return "cannot connect to '\(path)': only root and the user that the host runs as may use it"
        }
        return "no host answers at '\(path)': \(cause(error))"
    }

    private static func cause(_ error: any Error) -> String {
        let reason = reason(error)
        return switch (error as? IOError)?.errnoCode {
        case ENOENT: "\(reason): no host runs with this control socket"
        case ECONNREFUSED: "\(reason): the host that created this socket has ended"
        default: reason
        }
    }

    private static func sendFailure(_ request: ControlRequest, _ channel: any Channel) async -> (any Error)? {
        do {
            try await channel.writeAndFlush(ByteBuffer(bytes: request.line)).get()
            return nil
        } catch {
            return error
        }
    }

    private static func reason(_ error: any Error) -> String {
        guard let error = error as? IOError else { return "\(error)" }
        return SystemError("", code: error.errnoCode).reason
    }

    private static func next(
        _ lines: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator, _ channel: any Channel,
        by deadline: ContinuousClock.Instant, _ expired: NIOLockedValueBox<Bool>
    ) async throws -> ByteBuffer? {
        let time = TimeAmount(max(.zero, ContinuousClock.now.duration(to: deadline)))
        let timeout = channel.eventLoop.scheduleTask(in: time) {
            expired.withLockedValue { $0 = true }
            channel.close(promise: nil)
        }
        defer { timeout.cancel() }
        return try await lines.next()
    }
}
