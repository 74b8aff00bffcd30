internal import CMalloc
internal import Glibc
internal import PluginRuntime

/// A resource that the kernel lists for the process.
enum ProcessResource: String, Sendable, CustomStringConvertible {
    case descriptors, threads

    var description: String { rawValue }

    private var folder: String {
        switch self {
        case .descriptors: "/proc/self/fd"
        case .threads: "/proc/self/task"
        }
    }

    /// The numbers of the open descriptors or running threads.
    var now: Set<Int> {
        guard let list = opendir(folder) else { return [] }
        defer { closedir(list) }
        let own = self == .descriptors ? Int(dirfd(list)) : -1
        var numbers: Set<Int> = []
        while let entry = readdir(list) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let number = Int(name), number != own { numbers.insert(number) }
        }
        return numbers
    }

    /// Returns the list when it has at most `count` elements, or after one second: ending a thread takes a moment.
    func settled(atMost count: Int) -> Set<Int> {
        let deadline = monotonicTime(in: .seconds(1))
        let quiet = Monitor(())
        while true {
            let list = now
            if list.count <= count || monotonicNanoseconds() > deadline { return list }
            let _: Void? = quiet.wait(until: monotonicTime(in: .milliseconds(5))) { _ in nil }
        }
    }

    /// Returns the path of a descriptor or the name of a thread, for a message.
    func describe(_ number: Int) -> String {
        switch self {
        case .descriptors:
            return Self.text(256) { readlink("/proc/self/fd/\(number)", $0, $1 - 1) } ?? "\(number)"
        case .threads:
            guard let file = fopen("/proc/self/task/\(number)/comm", "r") else { return "\(number)" }
            defer { fclose(file) }
            return Self.line(of: file) ?? "\(number)"
        }
    }

    /// Returns up to `size` bytes that `read` writes.
    private static func text(_ size: Int, _ read: (UnsafeMutablePointer<CChar>, Int) -> Int) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { buffer in
            let count = read(buffer.baseAddress!, buffer.count)
            guard count > 0 else { return nil }
            return String(
                decoding: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]), as: UTF8.self)
        }
    }

    /// Returns the first line without its line break.
    fileprivate static func line(of file: UnsafeMutablePointer<FILE>) -> String? {
        text(256) { fread($0, 1, $1, file) }.map { String($0.prefix { $0 != "\n" }) }
    }
}

/// The memory of this process.
enum ProcessMemory {
    /// Bytes that malloc has allocated.
    static var heap: Int {
        let information = mallinfo2()
        return Int(information.uordblks) + Int(information.hblkhd)
    }

    /// The minimum of several measurements, because a thread that has just finished may still be freeing memory.
    static var settledHeap: Int {
        let quiet = Monitor(())
        return (0..<4).reduce(heap) { least, _ in
            let _: Void? = quiet.wait(until: monotonicTime(in: .milliseconds(4))) { _ in nil }
            return min(least, heap)
        }
    }

    /// Resident memory in bytes.
    static var resident: Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        let words = ProcessResource.line(of: file)?.split(separator: " ") ?? []
        let pages = words.dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * Int(getpagesize())
    }
}
