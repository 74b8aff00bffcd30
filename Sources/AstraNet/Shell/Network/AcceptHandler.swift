package import Logging
package import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Pauses a listening socket when the system refuses to accept connections.
///
/// Without a pause, a process at its limit of open files would try again at once and for ever: the connection stays in
/// the queue of the socket, so the socket stays readable. Belongs to the event loop of its channel.
package final class AcceptHandler: ChannelInboundHandler {
    package typealias InboundIn = any Channel

    /// The time between a failure and the next attempt.
    private static let pause = TimeAmount.seconds(1)

    private let log: Logger
    /// The name of the socket in log messages.
    private let name: String
    private var isPaused = false

    /// - Parameter name: the name of the socket in log messages, for example its address.
    package init(name: String, log: Logger) {
        self.name = name
        self.log = log
    }

    package func handlerAdded(context: ChannelHandlerContext) {
        context.channel.setCloseOnExec()
    }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isPaused {
            isPaused = false
            log.info("accepting connections again", metadata: ["listener": "\(name)"])
        }
        context.fireChannelRead(data)
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let code = (error as? IOError)?.errnoCode, Self.isTemporary(code) else {
            return context.fireErrorCaught(error)
        }
        // A client that has already closed its connection needs no pause.
        guard code != ECONNABORTED else { return }
        if !isPaused {
            isPaused = true
            log.warning(
                "cannot accept connections; trying again every second",
                metadata: [
                    "listener": "\(name)", "reason": "\(Self.reason(code))",
                ])
        }
        let channel = context.channel
        Self.setReading(false, channel)
        context.eventLoop.scheduleTask(in: Self.pause) { Self.setReading(true, channel) }
    }

    private static func setReading(_ isReading: Bool, _ channel: any Channel) {
        guard channel.isActive else { return }
        do {
            try channel.syncOptions?.setOption(.autoRead, value: isReading)
        } catch {
            // Only a channel that is closing refuses the option, and it reads no more.
            return
        }
    }

    private static func isTemporary(_ code: CInt) -> Bool {
        [EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED].contains(code)
    }

    /// The system's message, with the limit and the way out if there is one.
    private static func reason(_ code: CInt) -> String {
        let message = String(cString: strerror(code))
        guard code == EMFILE else { return message }
        var limit = rlimit()
        guard getrlimit(openFilesLimit, &limit) == 0 else { return message }
        return "\(message): the limit is \(limit.rlim_cur); raise it with LimitNOFILE= of the service or `ulimit -n`"
    }

    #if canImport(Glibc)
        private static let openFilesLimit = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
        private static let openFilesLimit = RLIMIT_NOFILE
    #endif
}

extension Channel {
    /// Returns a duplicate of the socket of this channel, which is close-on-exec. The caller owns it.
    ///
    /// - Returns: `nil` if the channel has no socket.
    /// - Throws: ``AstraNetError`` with code `limitReached` if the process has no free descriptor.
    package func duplicateDescriptor() async throws -> CInt? {
        try await eventLoop.submit {
            let duplicate = try self.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) {
                fcntl($0, F_DUPFD_CLOEXEC, 3)
            }
            guard duplicate != -1 else {
                throw AstraNetError(.limitReached, "cannot duplicate a socket: \(String(cString: strerror(errno)))")
            }
            return duplicate
        }.get()
    }

    /// Makes the socket of this channel invisible to programs that plugins start. NIO creates sockets without this
    /// flag. Event loop only.
    package func setCloseOnExec() {
        do {
            try pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) { descriptor in
                _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            }
        } catch {
            // The channel is already closed.
            return
        }
    }
}
