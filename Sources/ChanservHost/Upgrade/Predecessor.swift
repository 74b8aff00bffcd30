internal import AstraNet
internal import CSocket
internal import FoundationEssentials
internal import Glibc
internal import HostConfiguration
internal import NIOCore
internal import PluginRuntime

/// The reason why a host cannot be replaced.
package struct TakeOverError: Error, Hashable, CustomStringConvertible {
    package enum Kind: Sendable, Hashable {
        /// The host refuses, or cannot be asked.
        case refused
        /// The host has not answered. It may have ended, or may answer later.
        case lost
    }

    package var kind: Kind
    package var description: String
}

/// The host that runs with a control socket, as seen by a process that takes its place.
///
/// The calls block for at most ``answerTime`` each. What the host sends is limited.
package struct Predecessor: Sendable {
    /// Maximum time for the host to answer a request.
    private static let answerTime = Duration.seconds(10)
    /// Maximum length of an answer in bytes.
    private static let longestAnswer = 64 << 10

    private let path: String
    private let descriptor: Int32

    /// Connects to the control socket of a host.
    ///
    /// - Returns: `nil` if no process listens there.
    /// - Throws: ``TakeOverError`` if the host cannot be asked, or runs as another user who is not root.
    package static func connect(to path: String) throws(TakeOverError) -> Predecessor? {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        let host = Predecessor(path: path, descriptor: descriptor)
        guard descriptor >= 0 else { throw host.error(.refused, systemMessage(errno)) }
        var isConnected = false
        defer { if !isConnected { host.close() } }
        // The time limit of a send is also that of connecting to a socket whose backlog is full.
        var time = timeval(tv_sec: Int(answerTime / .seconds(1)), tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        guard withSocketAddress(path, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            if errno == ENOENT || errno == ECONNREFUSED { return nil }
            throw host.error(.refused, systemMessage(errno))
        }
        var (process, user) = (pid_t(), uid_t())
        guard chanserv_peer(descriptor, &process, &user) == 0, user == geteuid() || user == 0 else {
            throw host.error(.refused, "it runs as another user")
        }
        isConnected = true
        return host
    }

    package func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
    }

    /// Asks for the listening sockets. The host goes on to accept connections at them.
    package func listeners() throws(TakeOverError) -> [InheritedListeners.Socket] {
        let (report, descriptors) = try ask(
            .listeners(version: HandOver.version), as: ListenersAnswer.self)
        var sockets: [InheritedListeners.Socket] = []
        for (text, descriptor) in zip(report.addresses, descriptors) {
            guard let address = try? HostAddress(text), let bound = SocketAddress(listening: descriptor) else { break }
            sockets.append(InheritedListeners.Socket(configured: address, bound: bound, descriptor: descriptor))
        }
        guard sockets.count == report.addresses.count, sockets.count == descriptors.count else {
            for descriptor in descriptors { Glibc.close(descriptor) }
            throw error(.refused, "it sent other sockets than it lists")
        }
        return sockets
    }

    /// Tells the host that this process is ready to accept connections. The host stops to accept them before it answers,
    /// lets its requests end, and exits.
    ///
    /// - Returns: the id of the host's process.
    package func handOver() throws(TakeOverError) -> Int32 {
        let (report, descriptors) = try ask(.handOver, as: HandOverAnswer.self)
        for descriptor in descriptors { Glibc.close(descriptor) }
        return report.pid
    }

    // MARK: - Requests

    private func ask<Report: Codable & Sendable>(
        _ request: ControlRequest, as: ControlAnswer<Nothing, Report>.Type
    ) throws(TakeOverError) -> (Report, [Int32]) {
        try send(request.line)
        let (line, descriptors) = try receive()
        let answer: ControlAnswer<Nothing, Report>?
        do {
            answer = try JSONDecoder().decode(ControlAnswer<Nothing, Report>.self, from: Data(line))
        } catch {
            answer = nil
        }
        if let report = answer?.result { return (report, descriptors) }
        for descriptor in descriptors { Glibc.close(descriptor) }
        guard let refusal = answer?.error else { throw error(.refused, "it sent no answer of this version") }
        throw error(
            .refused,
            refusal.code == .unknownCommand ? "its version cannot be replaced; restart it" : refusal.message)
    }

    private func send(_ line: [UInt8]) throws(TakeOverError) {
        var unsent = line[...]
        while !unsent.isEmpty {
            let count = unsent.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                unsent = unsent.dropFirst(count)
            } else if errno != EINTR {
                throw error(.lost, systemMessage(errno))
            }
        }
    }

    private func receive() throws(TakeOverError) -> (line: [UInt8], descriptors: [Int32]) {
        let deadline = ContinuousClock.now + Self.answerTime
        var line: [UInt8] = []
        var descriptors: [Int32] = []
        var isComplete = false
        defer { if !isComplete { for descriptor in descriptors { Glibc.close(descriptor) } } }
        var part = [UInt8](repeating: 0, count: 4_096)
        var received = [Int32](repeating: 0, count: Int(chanserv_message_descriptors))
        while line.last != UInt8(ascii: "\n") {
            guard line.count <= Self.longestAnswer else { throw error(.refused, "its answer is too long") }
            let left = max(0, ContinuousClock.now.duration(to: deadline) / .milliseconds(1))
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&wait, 1, Int32(left.rounded(.up)))
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else {
                throw error(.lost, "it did not answer within \(ValueGrammar.text(Self.answerTime))")
            }
            var count: Int32 = 0
            let size = chanserv_receive_descriptors(descriptor, &part, part.count, &received, &count)
            if size < 0, errno == EINTR { continue }
            guard size >= 0 else {
                throw errno == EMSGSIZE
                    ? error(.refused, "this process cannot hold its sockets; raise the limit of open files")
                    : error(.lost, systemMessage(errno))
            }
            descriptors += received.prefix(Int(count))
            guard size > 0 else { throw error(.lost, "it closed the connection") }
            guard descriptors.count <= received.count else { throw error(.refused, "it sent too many sockets") }
            line += part.prefix(size)
        }
        isComplete = true
        return (line, descriptors)
    }

    private func error(_ kind: TakeOverError.Kind, _ reason: String) -> TakeOverError {
        TakeOverError(
            kind: kind, description: "cannot take over from the host with the control socket \(quoted(path)): \(reason)"
        )
    }
}
