import Glibc

/// What a process has used so far, as the kernel knows it.
struct ProcessUsage: Sendable {
    /// Seconds of processor time, its own and the kernel's for it.
    var processorSeconds: Double
    /// The most memory it ever had resident, bytes.
    var peakMemory: Int

    /// - Parameter id: `nil` for this process.
    init(of id: Int32?) throws(SystemError) {
        let folder = id.map { "/proc/\($0)" } ?? "/proc/self"
        peakMemory = try Self.kilobytes("VmHWM:", in: "\(folder)/status") * 1024
        if id != nil {
            // The fields after the name, which may have blanks and parentheses in it: utime and stime are the 12th and 13th.
            let fields = try Self.readText("\(folder)/stat").split(separator: ")").last?.split(separator: " ") ?? []
            guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else {
                throw SystemError("\(folder)/stat reads differently", code: EPROTO)
            }
            processorSeconds = (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
        } else {
            var usage = rusage()
            guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else {
                throw SystemError("cannot tell the processor time")
            }
            processorSeconds = Self.seconds(usage.ru_utime) + Self.seconds(usage.ru_stime)
        }
    }

    /// How much memory is resident now, exactly; bytes.
    static func residentMemory(of id: Int32?) throws(SystemError) -> Int {
        // Not /proc/PID/status: what its threads have not accounted for yet is missing there.
        try kilobytes("Rss:", in: (id.map { "/proc/\($0)" } ?? "/proc/self") + "/smaps_rollup") * 1024
    }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

    private static func kilobytes(_ key: String, in path: String) throws(SystemError) -> Int {
        let line = try readText(path).split(separator: "\n").first { $0.hasPrefix(key) }
        guard let number = line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first,
            let value = Int(number)
        else { throw SystemError("\(path) reads differently", code: EPROTO) }
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
