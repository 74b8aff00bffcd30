import ChanservHost
import FoundationEssentials
import Glibc
import NIOCore
import NIOPosix

/// A client of a host's control socket (`docs/control.md`, "The protocol").
package enum ControlClient {
    /// Maximum time between two lines from the host. The host sends a progress line every second during a long command.
    private static let readTimeout = Duration.seconds(30)
    private static let connectTimeout = TimeAmount.seconds(5)
    /// Maximum length of a line in bytes. The status of thousands of routes is shorter.
    private static let maximumLineLength = 64 << 20

    /// Sends `request` and calls `onProgress` with each progress line.
    ///
    /// - Returns: the result.
    /// - Throws: ``ControlFailure`` if the host cannot be reached, exits, or answers with an error; errors of
    ///   `onProgress`.
    static func ask<Progress: Codable & Sendable, Result: Codable & Sendable>(
        _ request: ControlRequest, at path: String,
        as answer: ControlAnswer<Progress, Result>.Type = ControlAnswer<Progress, Result>.self,
        _ onProgress: (Progress) async throws -> Void = { _ in }
    ) async throws -> Result {
        let channel = try await connect(to: path)
        return try await channel.executeThenClose { inbound in
            var lines = inbound.makeAsyncIterator()
            do {
                // A busy host sends an error and closes, possibly before it reads the request. Its answer takes
                // precedence over the failure of the send.
                let unsent = await sendFailure(request, channel.channel)
                while let line = try await next(&lines, channel.channel) {
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
                throw ControlFailure(exitCode: 69, ["lost the connection to the host at '\(path)': \(error)"])
            } catch let error as ChannelError {
                throw ControlFailure(exitCode: 69, ["lost the connection to the host at '\(path)': \(error)"])
            }
            try Task.checkCancellation()
            throw ControlFailure(
                exitCode: 69, ["the host at '\(path)' exited, or sent nothing for \(readTimeout)"])
        }
    }

    private static func connect(to path: String) async throws -> NIOAsyncChannel<ByteBuffer, Never> {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(connectTimeout)
                .connect(unixDomainSocketPath: path) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let decoder = ByteToMessageHandler(ControlLineDecoder(limit: maximumLineLength))
                        try channel.pipeline.syncOperations.addHandler(decoder)
                        return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            throw ControlFailure(exitCode: 69, [problem(with: path, error)])
        }
    }

    /// Returns the message for a failed connection to a control socket.
    package static func problem(with path: String, _ error: any Error) -> String {
        if let error = error as? IOError, error.errnoCode == EACCES {
            return "cannot connect to '\(path)': only root and the user that the host runs as may use it"
        }
        return "no host answers at '\(path)': \(reason(error))"
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
        _ lines: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator, _ channel: any Channel
    ) async throws -> ByteBuffer? {
        let timeout = channel.eventLoop.scheduleTask(in: TimeAmount(readTimeout)) { channel.close(promise: nil) }
        defer { timeout.cancel() }
        return try await lines.next()
    }
}
