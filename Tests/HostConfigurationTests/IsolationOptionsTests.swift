import HostConfiguration
import Testing

/// The isolation options of plugins in the configuration file.
@Suite struct IsolationOptionsTests {
    private func plugin(_ text: String, defaults: String = "{}") throws -> HostConfiguration.Plugin {
        let whole = "defaults: \(defaults)\nplugins: {e: \(text)}\nroutes: [{vaddr: e, plugin: e}]\n"
        return try HostConfiguration.parse(whole, file: "c.yaml", folder: "/").plugins[0]
    }

    private func errors(_ text: String, defaults: String = "{}") -> [String] {
        do {
            _ = try plugin(text, defaults: defaults)
            return []
        } catch let errors as ConfigurationErrors {
            return errors.errors.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    @Test func `a plugin runs in the host by default`() throws {
        #expect(try plugin("{path: e.so}").isolation == IsolationOptions())
        #expect(IsolationOptions().isolation == .host)
    }

    @Test func `all isolation options are read`() throws {
        var wanted = IsolationOptions()
        wanted.isolation = .process
        wanted.processes = 3
        wanted.callBudget = .milliseconds(50)
        wanted.killAfter = .seconds(5)
        wanted.heartbeatTimeout = .seconds(7)
        wanted.startup = .seconds(20)
        wanted.preflight = false
        wanted.nice = 5
        wanted.environment = ["PATH", "TOKEN"]
        wanted.limits.addressSpace = 2 << 30
        wanted.limits.cpu = 60
        wanted.limits.openFiles = 1_024
        let text = """
            {path: e.so, isolation: process, processes: 3, call_budget: 50ms, kill_after: 5s,
             heartbeat_timeout: 7s, startup: 20s, preflight: false, nice: 5, environment: [PATH, TOKEN],
             limits: {address_space: 2GiB, cpu: 1m, open_files: 1024}}
            """
        #expect(try plugin(text).isolation == wanted)
    }

    @Test func `the options of a plugin override the defaults`() throws {
        let defaults = "{isolation: process, processes: 4, kill_after: 9s}"
        let isolation = try plugin("{path: e.so, processes: 2, kill_after: none}", defaults: defaults).isolation
        #expect(isolation.isolation == .process)
        #expect(isolation.processes == 2)
        #expect(isolation.killAfter == nil)
        let deaf = try plugin("{path: e.so, isolation: process, heartbeat_timeout: none}")
        #expect(deaf.isolation.heartbeatTimeout == nil)
        // Options for worker processes are allowed in `defaults` even if a plugin runs in the host.
        #expect(try plugin("{path: e.so}", defaults: "{kill_after: 9s}").isolation.isolation == .host)
    }

    @Test(arguments: [
        ("{path: e.so, isolation: thread}", "2:38: unknown isolation 'thread' (known: host, process)"),
        ("{path: e.so, isolation: [process]}", "2:38: expected an isolation (host, process), found a list"),
        ("{path: e.so, processes: 2}", "2:27: 'processes' needs 'isolation: process'"),
        ("{path: e.so, limits: {cpu: 1s}}", "2:27: 'limits' needs 'isolation: process'"),
        ("{path: e.so, isolation: process, processes: 0}", "2:58: 0 is not from 1 to 256"),
        (
            "{path: e.so, isolation: process, limits: {cpu: 1500ms}}",
            "2:61: the processor time must be a whole number of seconds"
        ),
        (
            "{path: e.so, isolation: process, limits: {address_space: 1MiB}}",
            "2:71: 1MiB is not from 512MiB to 1024TiB"
        ),
        (
            "{path: e.so, isolation: process, environment: [A=1]}",
            "2:61: 'A=1' is not a name of an environment variable"
        ),
        ("{path: e.so, isolation: process, nice: 20}", "2:53: 20 is not from 0 to 19"),
        (
            "{path: e.so, isolation: process, heartbeat_timeout: 3s}",
            "2:66: the timeout must be at least 4s: processes report once a second"
        ),
        ("{path: e.so, call_budget: 0}", "2:40: the budget must be more than 0"),
    ])
    func `invalid isolation options are refused with the location and the reason`(text: String, message: String) {
        #expect(errors(text) == ["c.yaml:" + message])
    }
}
