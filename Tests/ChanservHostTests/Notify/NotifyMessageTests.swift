import ChanservHost
import Testing

@Suite struct NotifyMessageTests {
    @Test func `messages are lines of the form NAME=value`() {
        #expect(NotifyMessage.ready(status: "serving a").text == "READY=1\nSTATUS=serving a")
        #expect(NotifyMessage.reloading(at: 123_456).text == "RELOADING=1\nMONOTONIC_USEC=123456")
        #expect(NotifyMessage.status("busy").text == "STATUS=busy")
        #expect(NotifyMessage.stopping(status: "ending").text == "STOPPING=1\nSTATUS=ending")
        #expect(NotifyMessage.watchdog.text == "WATCHDOG=1")
        #expect(NotifyMessage.mainProcess(42).text == "MAINPID=42")
    }

    @Test func `control characters in a status text become spaces`() {
        #expect(NotifyMessage.status("a\nREADY=1\r\u{0}b").text == "STATUS=a READY=1  b")
    }

    // MARK: The environment

    private func environment(_ variables: [String: String]) throws -> NotifyEnvironment? {
        try NotifyEnvironment(variables, pid: 42)
    }

    @Test func `without NOTIFY_SOCKET there is no notify environment`() throws {
        #expect(try environment([:]) == nil)
        #expect(try environment(["NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1000"]) == nil)
    }

    @Test func `NOTIFY_SOCKET is a path or an abstract name`() throws {
        #expect(try environment(["NOTIFY_SOCKET": "/run/n"])?.address == .path("/run/n"))
        #expect(try environment(["NOTIFY_SOCKET": "@n/x"])?.address == .abstract("n/x"))
        for wrong in ["run/n", "@", "/" + String(repeating: "x", count: 107)] {
            #expect(throws: NotifyError.self) { try environment(["NOTIFY_SOCKET": wrong]) }
        }
    }

    @Test func `the watchdog interval is half of WATCHDOG_USEC`() throws {
        let socket = ["NOTIFY_SOCKET": "/n"]
        #expect(try environment(socket)?.watchdogInterval == nil)
        let time = socket.merging(["WATCHDOG_USEC": "3000000"]) { $1 }
        #expect(try environment(time)?.watchdogInterval == .milliseconds(1_500))
        #expect(try environment(time.merging(["WATCHDOG_PID": "42"]) { $1 })?.watchdogInterval == .milliseconds(1_500))
        #expect(try environment(time.merging(["WATCHDOG_PID": "43"]) { $1 })?.watchdogInterval == nil)
        let often = socket.merging(["WATCHDOG_USEC": "2"]) { $1 }
        #expect(try environment(often)?.watchdogInterval == NotifyEnvironment.shortestInterval)
        // An invalid value disables the watchdog only. All other messages are sent.
        for wrong in ["", "x", "-1", "0", "99999999999999999999"] {
            let environment = try #require(try environment(socket.merging(["WATCHDOG_USEC": wrong]) { $1 }))
            #expect(environment.watchdogInterval == nil)
            #expect(environment.watchdogProblem?.contains("WATCHDOG_USEC") == true)
        }
    }

    @Test(arguments: [
        ["NOTIFY_SOCKET": "/run/n"], ["NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"],
    ])
    func `a process that takes over finds the same manager`(variables: [String: String]) throws {
        let own = try #require(try environment(variables))
        let passed = own.variables.map { $0.split(separator: "=", maxSplits: 1).map(String.init) }
        let other = try NotifyEnvironment(Dictionary(uniqueKeysWithValues: passed.map { ($0[0], $0[1]) }), pid: 43)
        #expect(other == own)
    }
}
