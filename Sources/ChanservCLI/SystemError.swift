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

    /// Whether the reader of standard output closed it. Commands then end without a message and with
    /// ``CommandOutcome/outputClosed``.
    var isClosedOutput: Bool { code == EPIPE && what == StandardOutput.failure }

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
        } else if errno == EAGAIN {
            waitUntilReady(descriptor, POLLOUT)
        } else if errno != EINTR {
            throw SystemError("cannot write \(name)")
        }
    }
}

/// Waits until a descriptor in non-blocking mode is ready. Another process that shares a terminal or pipe may have set
/// this mode.
///
/// - Parameter events: `POLLIN` or `POLLOUT`.
func waitUntilReady(_ descriptor: Int32, _ events: Int32) {
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    // After an error the caller tries again and gets the error of its own call.
    _ = poll(&entry, 1, -1)
}

/// Standard output of this process.
enum StandardOutput {
    fileprivate static let failure = "cannot write standard output"

    /// Writes text.
    static func write(_ text: String) throws(SystemError) {
        try write(bytes: Array(text.utf8))
    }

    /// Writes bytes.
    static func write(bytes: [UInt8]) throws(SystemError) {
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(SystemError) in try writeAll(bytes, to: STDOUT_FILENO, name: "standard output") }
        }
        try result.get()
    }
}

/// Standard error of this process.
enum StandardError {
    /// Writes a line. Control characters are escaped, because a message can contain text from plugins or other hosts.
    static func write(_ line: String) { draw(line.visible + "\n") }

    /// Reports an error on one line: with the prefix `chanserv: `, or as it is if it begins with `file:line:column: `,
    /// which editors and terminals can jump to.
    static func report(_ problem: String) {
        let hasPlace = problem.prefixMatch(of: #/[^:]+:\d+:\d+: /#) != nil
        write(hasPlace ? problem : "chanserv: \(problem)")
    }

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
