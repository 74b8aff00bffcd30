import Glibc

/// Writes a line to standard output without buffering, because the pool reads the lines of its workers while they run.
func say(_ line: String) {
    emit(line, to: STDOUT_FILENO)
}

func emit(_ line: String, to descriptor: CInt) {
    var bytes = Array((line + "\n").utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        bytes = bytes.dropFirst(count)
    }
}
