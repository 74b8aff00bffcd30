import ChanservHost
import Glibc
import HostConfiguration
import NIOCore
import Testing

/// What a process inherits from the service manager or from the host that it replaces.
@Suite struct InheritanceTests {
    // MARK: Socket activation

    private func activation(_ variables: [String: String]) throws(HostError) -> SocketActivation? {
        try SocketActivation(variables, pid: 42)
    }

    @Test func `sockets are used only by the process for which they are meant`() throws {
        #expect(try activation([:]) == nil)
        #expect(try activation(["LISTEN_FDS": "1"]) == nil)
        #expect(try activation(["LISTEN_PID": "43", "LISTEN_FDS": "1"]) == nil)
        #expect(try activation(["LISTEN_PID": "42"]) == nil)
        #expect(try activation(["LISTEN_PID": "42", "LISTEN_FDS": "0"]) == nil)
        #expect(try activation(["LISTEN_PID": "42", "LISTEN_FDS": "2"])?.count == 2)
    }

    @Test func `names of sockets are separated by colons`() throws {
        let names = ["LISTEN_PID": "42", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "public:"]
        #expect(try activation(names)?.names == ["public", ""])
    }

    @Test(arguments: ["", "x", "-1", "257", "99999999999999999999"])
    func `an invalid number of sockets is an error`(count: String) {
        let error = #expect(throws: HostError.self) {
            try activation(["LISTEN_PID": "42", "LISTEN_FDS": count])
        }
        #expect(error?.code == .unavailable)
    }

    // MARK: Matching

    private static let first = try! SocketAddress(ipAddress: "127.0.0.1", port: 5555)
    private static let second = try! SocketAddress(ipAddress: "127.0.0.1", port: 40_000)

    @Test func `a socket is taken by the address in the configuration, also with port 0`() throws {
        // Negative descriptors are never closed.
        let listeners = InheritedListeners([
            .init(configured: try HostAddress("127.0.0.1:5555"), bound: Self.first, descriptor: -10),
            .init(configured: try HostAddress("127.0.0.1:0"), bound: Self.second, descriptor: -11),
        ])
        let anyPort = try HostAddress("127.0.0.1:0")
        let resolved = try SocketAddress(ipAddress: "127.0.0.1", port: 0)
        #expect(listeners.take(for: anyPort, at: resolved) == -11)
        #expect(listeners.take(for: anyPort, at: resolved) == nil)
        #expect(listeners.take(for: try HostAddress("127.0.0.1:5555"), at: Self.first) == -10)
    }

    @Test func `a socket is taken by the address at which it listens, however it is written`() throws {
        let listeners = InheritedListeners([.init(bound: Self.first, descriptor: -10)])
        #expect(listeners.unusedActivated == ["127.0.0.1:5555"])
        #expect(listeners.take(for: try HostAddress("127.0.0.2:5555"), at: Self.second) == nil)
        #expect(listeners.take(for: try HostAddress("localhost:5555"), at: Self.first) == -10)
        #expect(listeners.unusedActivated == [])
    }

    @Test func `unused sockets are closed`() throws {
        let descriptor = dup(STDERR_FILENO)
        try #require(descriptor >= 0)
        InheritedListeners([.init(bound: Self.first, descriptor: descriptor)]).close()
        #expect(fcntl(descriptor, F_GETFD) == -1)
    }

    // MARK: The command of the next process

    @Test func `the next process gets the arguments of this one, and takes over`() {
        let first = SuccessorLaunch(
            arguments: ["/opt/current/chanserv", "serve", "--config", "a.yaml"], executable: "/opt/1/chanserv")
        #expect(first.program == "/opt/current/chanserv")
        #expect(
            first.arguments == [
                "/opt/current/chanserv", "serve", "--config", "a.yaml", "--take-over", "--report-descriptor", "3",
            ])
        let next = SuccessorLaunch(arguments: first.arguments, executable: "/opt/1/chanserv")
        #expect(next == first)
        let manual = SuccessorLaunch(arguments: ["x/chanserv", "serve", "--take-over"], executable: "/opt/1/chanserv")
        #expect(manual.arguments == ["x/chanserv", "serve", "--take-over", "--report-descriptor", "3"])
    }

    @Test func `a program that the shell found in its search path is started by its path`() {
        let launch = SuccessorLaunch(arguments: ["chanserv", "serve"], executable: "/usr/bin/chanserv")
        #expect(launch.program == "/usr/bin/chanserv" && launch.arguments.first == "chanserv")
    }
}
