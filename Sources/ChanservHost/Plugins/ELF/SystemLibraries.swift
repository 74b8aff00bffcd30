internal import Glibc

/// The dynamic linker's surroundings as they are on this machine.
extension LibrarySearch.Surroundings {
    package static func system() -> Self {
        var bytesLeft = readLimit
        var surroundings = Self(isLoaded: isLoaded) { candidate($0, &bytesLeft) }
        if let value = getenv("LD_LIBRARY_PATH"), value.pointee != 0 {
            let folders = String(cString: value).split(omittingEmptySubsequences: false) { $0 == ":" || $0 == ";" }
            surroundings.libraryPath = folders.map(String.init)
        }
        switch readWhole("/etc/ld.so.cache", maximumSize: 64 << 20) {
        case .success(let bytes): surroundings.cache = LoaderCache(bytes)
        case .failure(let failure): surroundings.cache = failure.code == ENOENT ? LoaderCache() : nil
        }
        return surroundings
    }

    /// Asks the linker, which compares with the names the loaded libraries give themselves. It runs no code and maps
    /// nothing. What it finds stays referenced: nothing is ever unloaded here.
    private static func isLoaded(_ name: String) -> Bool {
        if name.contains("/") { return false }
        guard dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD) != nil else {
            // Its message would be taken for that of the next call that fails.
            _ = dlerror()
            return false
        }
        return true
    }

    /// So many bytes of libraries are read in one search, 512 MiB; what is beyond is the linker's to look at.
    private static let readLimit = 512 << 20

    private static func candidate(_ path: String, _ bytesLeft: inout Int) -> LibrarySearch.Candidate {
        switch readWhole(path, maximumSize: bytesLeft) {
        case .success(let bytes):
            bytesLeft -= bytes.count
            do throws(ELFProblem) {
                return .library(try ELFLibrary(bytes))
            } catch {
                switch error {
                case .notALibrary(let why): return .refused(why)
                case .truncated: return .refused("it ends before what its headers describe")
                case .damaged(let why): return .refused(why)
                }
            }
        case .failure(let failure):
            switch failure.code {
            case ENOENT, ENOTDIR: return .nothing
            case EFBIG: return .unread
            default: return .refused(systemMessage(failure.code))
            }
        }
    }
}

private struct ReadFailure: Error {
    var code: Int32
}

/// A regular file's bytes.
private func readWhole(_ path: String, maximumSize: Int) -> Result<[UInt8], ReadFailure> {
    // O_NONBLOCK: opening a pipe must not wait for somebody to write to it.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { return .failure(ReadFailure(code: errno)) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return .failure(ReadFailure(code: errno)) }
    guard status.st_mode & S_IFMT == S_IFREG else { return .failure(ReadFailure(code: EISDIR)) }
    guard status.st_size <= maximumSize else { return .failure(ReadFailure(code: EFBIG)) }
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
        while count < buffer.count {
            let result = read(descriptor, buffer.baseAddress! + count, buffer.count - count)
            if result == 0 { return }
            if result > 0 {
                count += result
            } else if errno != EINTR {
                failure = errno
                return
            }
        }
    }
    return failure == 0 ? .success(bytes) : .failure(ReadFailure(code: failure))
}
