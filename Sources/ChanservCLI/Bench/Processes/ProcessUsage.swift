import Glibc

/// The resources that a process has used so far, from the kernel.
struct ProcessUsage: Sendable {
    /// Processor time in user and kernel mode, in seconds.
    var processorSeconds: Double
    /// Peak resident memory in bytes.
    var peakMemory: Int

    /// Reads the usage of a process.
    ///
    /// - Parameter id: the process ID; `nil` for this process.
    init(of id: Int32?) throws(SystemError) {
        let folder = id.map { "/proc/\($0)" } ?? "/proc/self"
        peakMemory = try Self.kilobytes("VmHWM:", in: "\(folder)/status") * 1024
        if id != nil {
            // The process name can contain spaces and parentheses, so the fields are counted after the last `)`.
            // utime and stime are the 12th and the 13th field there.
            let fields = try Self.readText("\(folder)/stat").split(separator: ")").last?.split(separator: " ") ?? []
            guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
                throw SystemError("cannot parse \(folder)/stat", code: EPROTO)
            }
            processorSeconds = (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
        } else {
            var usage = rusage()
            guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else {
                throw SystemError("cannot read the processor time")
            }
            processorSeconds = Self.seconds(usage.ru_utime) + Self.seconds(usage.ru_stime)
        }
    }

    /// Returns the exact amount of resident memory in bytes.
    ///
    /// - Parameter id: the process ID; `nil` for this process.
    static func residentMemory(of id: Int32?) throws(SystemError) -> Int {
        // /proc/PID/status is not exact: it lacks the pages that the threads' counters have not reported yet.
        try kilobytes("Rss:", in: (id.map { "/proc/\($0)" } ?? "/proc/self") + "/smaps_rollup") * 1024
    }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

    private static func kilobytes(_ key: String, in path: String) throws(SystemError) -> Int {
        let line = try readText(path).split(separator: "\n").first { $0.hasPrefix(key) }
        guard let number = line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first,
            let value = Int(number)
        else { throw SystemError("cannot parse \(path)", code: EPROTO) }
        return value
    }

    private static func readText(_ path: String) throws(SystemError) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw SystemError("cannot open \(path)") }
        defer { close(file) }
        var text: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(file, &part, part.count)
            if count < 0 { throw SystemError("cannot read \(path)") }
            if count == 0 { return String(decoding: text, as: UTF8.self) }
            text += part[..<count]
        }
    }
}
