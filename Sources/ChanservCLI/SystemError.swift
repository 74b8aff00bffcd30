import Glibc

/// A system call that failed: what was tried, and why it did not work.
struct SystemError: Error, Equatable, CustomStringConvertible {
    /// The C library's error number.
    var code: Int32
    /// What was tried, e.g. `cannot open 'a/b'`.
    var what: String

    /// Takes the error number of the call made last.
    init(_ what: String) {
        self.init(what, code: errno)
    }

    init(_ what: String, code: Int32) {
        self.code = code
        self.what = what
    }

    var description: String { "\(what): \(reason)" }

    /// Why it did not work, in the C library's words.
    var reason: String { String(cString: strerror(code)) }
}

/// Writes all of `bytes`, however often it takes.
///
/// - Parameter name: what `descriptor` is, for the error.
func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, name: String) throws(SystemError) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let part = UnsafeRawBufferPointer(rebasing: rest)
        let count = write(descriptor, part.baseAddress, part.count)
        if count >= 0 {
            rest = rest.dropFirst(count)
        } else if errno != EINTR {
            throw SystemError("cannot write \(name)")
        }
    }
}

enum StandardError {
    /// Writes a line, whole, and visible, for it may repeat what others said.
    static func write(_ line: String) { draw(line.visible + "\n") }

    /// Writes what moves the cursor, or is not a whole line. Where standard error is closed or full there is nobody left to tell.
    static func draw(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            do throws(SystemError) {
                try writeAll(UnsafeRawBufferPointer(bytes), to: STDERR_FILENO, name: "standard error")
            } catch {}
        }
    }
}
