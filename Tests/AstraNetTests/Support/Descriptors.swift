import Foundation

/// Descriptors as a parent process would hand them on.
enum Descriptors {
    struct Failure: Error {
        let code = errno
    }

    static func pipe() throws -> (input: CInt, output: CInt) {
        var ends: [CInt] = [0, 0]
        guard Foundation.pipe(&ends) == 0 else { throw Failure() }
        return (ends[0], ends[1])
    }

    static func socketPair() throws -> (CInt, CInt) {
        var ends: [CInt] = [0, 0]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0 else { throw Failure() }
        return (ends[0], ends[1])
    }
}
