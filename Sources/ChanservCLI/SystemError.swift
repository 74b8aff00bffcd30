import Glibc

/// The error of a failed system call.
package struct SystemError: Error, Equatable, CustomStringConvertible {
    /// The C library's error number.
    var code: Int32
    /// The failed operation, such as `cannot open 'a/b'`.
    var what: String

    /// Creates the error of the last system call, from `errno`.
    init(_ what: String) {
        self.init(what, code: errno)
    }

    init(_ what: String, code: Int32) {
        self.code = code
        self.what = what
    }

    package var description: String { "\(what): \(reason)" }

    /// The C library's text for the error number.
    var reason: String { String(cString: strerror(code)) }
}

/// Writes all of `bytes`, with several system calls if necessary.
///
/// - Parameter name: the name of the file, for the error message.
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

/// Standard error of this process.
enum StandardError {
    /// Writes a line. Control characters are escaped, because a message can contain text from plugins or other hosts.
    static func write(_ line: String) { draw(line.visible + "\n") }

    /// Writes text as it is, including control sequences.
    ///
    /// Ignores errors: if standard error is closed or full, there is no place left to report one.
    static func draw(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            do throws(SystemError) {
                try writeAll(UnsafeRawBufferPointer(bytes), to: STDERR_FILENO, name: "standard error")
            } catch {}
        }
    }
}
