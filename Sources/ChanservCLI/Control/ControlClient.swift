import ChanservHost
import FoundationEssentials
import Glibc
import NIOCore
import NIOPosix

/// One request to a running host over its control socket.
enum ControlClient {
    /// A host that says nothing for so long is stuck: with an answer that takes longer it says every second that it is there.
    private static let patience = Duration.seconds(30)
    private static let connectTime = TimeAmount.seconds(5)
    /// A status of thousands of routes; more than this is no host's.
    private static let longestLine = 64 << 20

    /// Sends `request` and calls `onProgress` with each line of progress.
    ///
    /// - Returns: the result.
    /// - Throws: ``ControlFailure`` where the host cannot be reached, ends, or refuses; what `onProgress` throws.
    static func ask<Progress: Codable & Sendable, Result: Codable & Sendable>(
        _ request: ControlRequest, at path: String,
        as answer: ControlAnswer<Progress, Result>.Type = ControlAnswer<Progress, Result>.self,
        _ onProgress: (Progress) async throws -> Void = { _ in }
    ) async throws -> Result {
        let channel = try await connect(to: path)
        return try await channel.executeThenClose { inbound in
            var lines = inbound.makeAsyncIterator()
            do {
                // A host that is busy says so and closes, perhaps before it was asked: what it said counts then.
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
                    exitCode: 70, ["the host at '\(path)' answers nothing that is known here: \(error)"])
            } catch let error as IOError {
                throw ControlFailure(exitCode: 69, ["the host at '\(path)' is gone: \(error)"])
            } catch let error as ChannelError {
                throw ControlFailure(exitCode: 69, ["the host at '\(path)' is gone: \(error)"])
            }
            try Task.checkCancellation()
            throw ControlFailure(exitCode: 69, ["the host at '\(path)' ended, or has said nothing for \(patience)"])
        }
    }

    private static func connect(to path: String) async throws -> NIOAsyncChannel<ByteBuffer, Never> {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(connectTime)
                .connect(unixDomainSocketPath: path) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let decoder = ByteToMessageHandler(ControlLineDecoder(limit: longestLine))
                        try channel.pipeline.syncOperations.addHandler(decoder)
                        return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            throw ControlFailure(exitCode: 69, [problem(with: path, error)])
        }
    }

    /// Why nobody could be reached at a path.
    static func problem(with path: String, _ error: any Error) -> String {
        if let error = error as? IOError, error.errnoCode == EACCES {
            return "'\(path)' is not to be used by this user: only by the one that the host runs as, and by root"
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
        let alarm = channel.eventLoop.scheduleTask(in: TimeAmount(patience)) { channel.close(promise: nil) }
        defer { alarm.cancel() }
        return try await lines.next()
    }
}
