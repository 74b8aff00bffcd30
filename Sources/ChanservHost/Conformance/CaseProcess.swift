internal import CProcess
internal import Glibc

/// The child's side.
package enum CaseProcess {
    /// Where the shared record is.
    static let recordDescriptor: Int32 = 3

    /// Limits of a child.
    package struct Limits: Sendable {
        /// After which it is killed.
        package var time = Duration.seconds(20)
        /// Bytes of memory it may write to.
        package var memory = 2 << 30

        package init() {}
    }

    /// Runs one case in this process, which was started for it, and ends the process.
    ///
    /// - Parameter memory: how many bytes it may have.
    package static func run(_ name: String, _ order: CaseOrder, memory: Int) -> Never {
        guard let record = CaseRecord(descriptor: recordDescriptor),
            let found = ConformanceCase.all.first(where: { $0.name == name })
        else {
            // Nobody but the parent starts this.
            exit(64)
        }
        _ = chanserv_die_with_parent(SIGKILL)
        _ = chanserv_limit(Int32(RLIMIT_CORE.rawValue), 0, 0)
        _ = chanserv_limit(Int32(RLIMIT_DATA.rawValue), UInt64(memory), UInt64(memory))
        // On a thread like those the host has for plugins, not on the first, which has a place of its own.
        CaseThread { record.finish(verdict(of: found, order, record)) }.join()
        if name == ConformanceCase.exitName { exit(0) }
        _exit(0)
    }

    private static func verdict(of found: ConformanceCase, _ order: CaseOrder, _ record: CaseRecord) -> Verdict {
        ProcessState.beforeLoading = ProcessState()
        let library: CaseLibrary
        do throws(CaseLibrary.Problem) {
            library = try CaseLibrary(path: order.file, record: record)
        } catch {
            return Verdict(found.name == ConformanceCase.loadName ? .fail : .skip, [error.message])
        }
        let run = CaseRun(
            library: library, record: record, configuration: order.configuration,
            requests: order.requests.map { Array($0.utf8) })
        do {
            return try found.run(run)
        } catch let end as CaseEnd {
            return end.verdict
        } catch {
            return Verdict(.fail, ["\(error)"])
        }
    }
}
