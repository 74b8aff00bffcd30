/// Cache of `ldconfig`, `/etc/ld.so.cache`, in the format that glibc has written for more than twenty years.
package struct LoaderCache: Sendable {
    private let libraries: [String: [String]]

    /// Empty cache, for a system without one.
    package init() { libraries = [:] }

    /// Parses a cache. Returns `nil` for an unknown format.
    package init?(_ bytes: [UInt8]) {
        let file = ELFBytes(bytes)
        // An older format may precede it for older linkers. The newer one then begins at the next multiple of 8.
        var start: UInt64 = 0
        if file.hasPrefix("ld.so-1.7.0", at: 0) {
            guard let count: UInt32 = file.integer(at: 12) else { return nil }
            start = (16 + UInt64(count) * 12 + 7) / 8 * 8
        }
        guard file.hasPrefix("glibc-ld.so.cache1.1", at: start), let cache = file.slice(from: start),
            let count: UInt32 = cache.integer(at: 20), let entries = cache.slice(at: 48, size: UInt64(count) * 24)
        else { return nil }
        var libraries: [String: [String]] = [:]
        for index in 0..<UInt64(count) {
            // An entry begins with flags, name and path. Text offsets count from the start of the cache. The flags
            // state the machine, but the header of the library states it more reliably.
            guard let name: UInt32 = entries.integer(at: index * 24 + 4),
                let path: UInt32 = entries.integer(at: index * 24 + 8),
                let name = cache.text(at: UInt64(name)), let path = cache.text(at: UInt64(path))
            else { return nil }
            libraries[name, default: []].append(path)
        }
        self.libraries = libraries
    }

    /// Returns the paths of libraries of this name, in order of preference.
    package func paths(of name: String) -> [String] { libraries[name] ?? [] }
}
