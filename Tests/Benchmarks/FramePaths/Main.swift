#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Runs one code path of frames, credit or requests a given number of times, on one thread and without sockets.
/// `scripts/guard` counts the instructions.
///
///     FramePaths              lists the paths: name, unit, default count
///     FramePaths PATH COUNT   runs a path
@main
enum FramePaths {
    struct Path: Sendable {
        var name: String
        /// The unit of `count`.
        var unit: String
        /// Default count: enough to measure the cost of one unit, and at most about a second under valgrind.
        var count: Int
        var run: @Sendable (Int) throws -> Void
    }

    static let paths = [
        Path(name: "encode", unit: "frame", count: 100_000, run: encode),
        Path(name: "encode-reserve", unit: "frame", count: 100_000, run: encodeReserved),
        Path(name: "decode", unit: "frame", count: 100_000, run: decode),
        Path(name: "decode-cut", unit: "frame", count: 50_000, run: decodeCut),
        Path(name: "decode-large", unit: "MiB", count: 50, run: decodeLarge),
        Path(name: "ops", unit: "op", count: 50_000, run: ops),
        Path(name: "credit", unit: "64KiB", count: 50_000, run: credit),
        Path(name: "stream", unit: "64KiB", count: 400, run: stream),
        Path(name: "hand-over", unit: "frame", count: 200_000, run: handOver),
        Path(name: "request", unit: "request", count: 400, run: requests),
        Path(name: "request-inline", unit: "request", count: 400, run: requestsWithoutTasks),
    ]

    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        if arguments.isEmpty {
            for path in paths { print(path.name, path.unit, path.count) }
            return
        }
        guard arguments.count == 2, let path = paths.first(where: { $0.name == arguments.first }),
            let count = arguments.last.flatMap({ Int($0) }), count > 0
        else {
            print("usage: FramePaths [PATH COUNT]")
            exit(64)
        }
        do {
            try path.run(count)
        } catch {
            print("\(path.name): \(error)")
            exit(1)
        }
    }
}
