/// Dynamic section: the linker's instructions for the library.
package struct ELFDynamic: Sendable {
    /// Needed libraries, in the order in which the linker looks for them.
    package private(set) var neededLibraries: [String] = []
    /// Name of the library for those that need it (DT_SONAME).
    package private(set) var ownName: String?
    /// Search path for the needed libraries and for the libraries that those need (DT_RPATH). The linker ignores it if
    /// there is a ``runPath``.
    package private(set) var rPath: [String] = []
    /// Search path for the needed libraries (DT_RUNPATH).
    package private(set) var runPath: [String] = []
    /// Whether the linker would have to write to the code.
    package private(set) var hasTextRelocations = false
    /// Whether the thread-local variables must be in the static TLS block (`DF_STATIC_TLS`).
    package private(set) var usesStaticTLS = false
    /// String table with the names of symbols.
    package let strings: ELFBytes
    /// Symbol table, from its start to the end of the mapped part, because the file does not state its size.
    package let symbols: ELFBytes?
    /// Hash tables to find symbols by name, also up to the end of the mapped part.
    package let gnuHash: ELFBytes?
    package let systemVHash: ELFBytes?

    /// Limits that detect damaged files. The largest libraries need a few hundred libraries and have a few dozen other
    /// entries.
    private static let maximumEntries: UInt64 = 65536
    private static let maximumLibraries = 4096

    package init(_ file: ELFBytes, _ segments: ELFSegments) throws(ELFProblem) {
        guard let piece = segments.dynamic, let section = file.slice(at: piece.offset, size: piece.size) else {
            throw .notALibrary("it has no dynamic section")
        }
        func bytes(at address: UInt64?) throws(ELFProblem) -> ELFBytes? {
            guard let address else { return nil }
            guard let piece = segments.piece(at: address) else {
                throw .damaged("its dynamic section points outside of what is mapped")
            }
            return file.slice(at: piece.offset, size: piece.size)
        }

        var needed: [UInt64] = []
        var values: [UInt64: UInt64] = [:]
        for index in 0..<min(section.count / 16, Self.maximumEntries) {
            guard let tag: UInt64 = section.integer(at: index * 16),
                let value: UInt64 = section.integer(at: index * 16 + 8), tag != Tag.end
            else { break }
            if tag == Tag.needed { needed.append(value) } else { values[tag] = value }
        }
        guard needed.count <= Self.maximumLibraries else { throw .damaged("it needs \(needed.count) libraries") }
        if let flags = values[Tag.flags1], flags & 0x0800_0000 != 0 {
            throw .notALibrary("it is an executable; link it with -shared -fPIC")
        }

        guard let all = try bytes(at: values[Tag.strings]), let size = values[Tag.stringsSize],
            let strings = all.slice(at: 0, size: size)
        else { throw .damaged("its table of names does not lie within what is mapped") }
        self.strings = strings
        func text(at offset: UInt64, _ what: String, maximum: Int = 4096) throws(ELFProblem) -> String {
            guard let text = strings.text(at: offset, maximum: maximum) else {
                throw .damaged("\(what) is not in its table of names")
            }
            return text
        }
        for offset in needed { neededLibraries.append(try text(at: offset, "a library it needs")) }
        if let offset = values[Tag.ownName] { ownName = try text(at: offset, "its own name") }
        if let offset = values[Tag.rPath] { rPath = Self.list(try text(at: offset, "its rpath", maximum: 65536)) }
        if let offset = values[Tag.runPath] { runPath = Self.list(try text(at: offset, "its runpath", maximum: 65536)) }
        hasTextRelocations = values[Tag.textRelocations] != nil || (values[Tag.flags] ?? 0) & 4 != 0
        usesStaticTLS = (values[Tag.flags] ?? 0) & 0x10 != 0
        symbols = try bytes(at: values[Tag.symbols])
        gnuHash = try bytes(at: values[Tag.gnuHash])
        systemVHash = try bytes(at: values[Tag.systemVHash])
    }

    /// Splits a search path. An empty entry stands for the working directory.
    private static func list(_ path: String) -> [String] {
        path.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }

    private enum Tag {
        static let end: UInt64 = 0
        static let needed: UInt64 = 1
        static let systemVHash: UInt64 = 4
        static let strings: UInt64 = 5
        static let symbols: UInt64 = 6
        static let stringsSize: UInt64 = 10
        static let ownName: UInt64 = 14
        static let rPath: UInt64 = 15
        static let textRelocations: UInt64 = 22
        static let runPath: UInt64 = 29
        static let flags: UInt64 = 30
        static let gnuHash: UInt64 = 0x6FFF_FEF5
        static let flags1: UInt64 = 0x6FFF_FFFB
    }
}
