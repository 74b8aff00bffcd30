internal import CProcess
internal import Glibc

/// The child process of a case.
package enum CaseProcess {
    /// The descriptor of the shared record.
    static let recordDescriptor: Int32 = 3

    /// Limits of the child process.
    package struct Limits: Sendable {
        /// The time after which the parent kills it.
        package var time = Duration.seconds(20)
        /// Writable memory in bytes.
        package var memory = 2 << 30

        package init() {}
    }

    /// Runs one case in this process, which the parent started for it, and ends the process.
    ///
    /// - Parameter memory: maximum writable memory in bytes.
    package static func run(_ name: String, _ order: ConformanceInput, memory: Int) -> Never {
        guard let record = CaseRecord(descriptor: recordDescriptor),
            let found = ConformanceCase.all.first(where: { $0.name == name })
        else {
            // Only the parent starts this command.
            exit(64)
        }
        _ = chanserv_die_with_parent(SIGKILL)
        _ = chanserv_limit(Int32(RLIMIT_CORE.rawValue), 0, 0)
        _ = chanserv_limit(Int32(RLIMIT_DATA.rawValue), UInt64(memory), UInt64(memory))
        // Plugins run on threads with the usual stack in the host, unlike the main thread.
        CaseThread { record.finish(verdict(of: found, order, record)) }.join()
        if name == ConformanceCase.exitName { exit(0) }
        _exit(0)
    }

    private static func verdict(of found: ConformanceCase, _ order: ConformanceInput, _ record: CaseRecord) -> Verdict {
        ProcessState.beforeLoading = ProcessState()
        let library: CaseLibrary
        do throws(CaseLibrary.Problem) {
            library = try CaseLibrary(path: order.file, record: record)
        } catch {
            return Verdict(found.name == ConformanceCase.loadName ? .fail : .skip, [error.message])
        }
        let run = CaseRun(
            library: library, record: record, configuration: order.configuration,
            requests: order.requests)
        do {
            return try found.run(run)
        } catch let end as CaseEnd {
            return end.verdict
        } catch {
            return Verdict(.fail, ["\(error)"])
        }
    }
}
