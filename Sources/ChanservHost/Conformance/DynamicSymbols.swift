/// The names a shared library exports, read from its dynamic symbol table.
struct DynamicSymbols {
    struct Symbol: Hashable {
        var name: String
        /// `STB_GNU_UNIQUE`: one for the whole process, whatever the library was loaded with.
        var isUnique: Bool
    }

    private(set) var exported: [Symbol] = []

    /// Reads a 64-bit little-endian ELF file; every number in it is checked before it is used.
    ///
    /// - Returns: `nil` where there is no such table.
    init?(_ file: UnsafeRawBufferPointer) {
        guard let table = Self.section(in: file, type: 11), table.entrySize == 24,
            let names = Self.section(in: file, number: table.link)
        else { return nil }
        for index in 0..<table.bytes.count / 24 {
            let entry = UnsafeRawBufferPointer(rebasing: table.bytes[index * 24..<index * 24 + 24])
            let binding = entry[4] >> 4
            let visibility = entry[5] & 3
            let section = entry.little(at: 6, as: UInt16.self)
            // Defined here; global, weak or unique; default or protected.
            guard section != 0, [1, 2, 10].contains(binding), visibility == 0 || visibility == 3 else { continue }
            let start = Int(entry.little(at: 0, as: UInt32.self))
            guard start < names.bytes.count else { return nil }
            let name = String(decoding: names.bytes[start...].prefix { $0 != 0 }, as: UTF8.self)
            exported.append(Symbol(name: name, isUnique: binding == 10))
        }
        exported.sort { $0.name < $1.name }
    }

    private struct Section {
        var bytes: UnsafeRawBufferPointer
        var link: Int
        var entrySize: Int
    }

    private static func section(in file: UnsafeRawBufferPointer, type: UInt32) -> Section? {
        guard file.count >= 64 else { return nil }
        return (0..<Int(file.little(at: 60, as: UInt16.self))).lazy.compactMap { number in
            header(in: file, number: number).flatMap { header in
                header.little(at: 4, as: UInt32.self) == type ? section(in: file, number: number) : nil
            }
        }.first
    }

    private static func section(in file: UnsafeRawBufferPointer, number: Int) -> Section? {
        guard let header = header(in: file, number: number) else { return nil }
        let offset = header.little(at: 24, as: UInt64.self)
        let size = header.little(at: 32, as: UInt64.self)
        guard offset <= file.count, UInt64(file.count) - offset >= size else { return nil }
        return Section(
            bytes: UnsafeRawBufferPointer(rebasing: file[Int(offset)..<Int(offset + size)]),
            link: Int(header.little(at: 40, as: UInt32.self)),
            entrySize: Int(clamping: header.little(at: 56, as: UInt64.self)))
    }

    private static func header(in file: UnsafeRawBufferPointer, number: Int) -> UnsafeRawBufferPointer? {
        let table = file.little(at: 40, as: UInt64.self)
        let count = Int(file.little(at: 60, as: UInt16.self))
        guard file.little(at: 58, as: UInt16.self) == 64, number < count, table <= file.count,
            file.count - Int(table) >= count * 64
        else { return nil }
        return UnsafeRawBufferPointer(rebasing: file[(Int(table) + number * 64)...].prefix(64))
    }
}

extension DynamicSymbols {
    /// What a name belongs to that an author cannot hide, or not easily.
    private static func origin(of name: String) -> String? {
        let runtimes: [(prefixes: [String], origin: String)] = [
            (["_cgo_", "x_cgo_", "_cgoexp", "crosscall", "go.", "runtime.", "local.", "cgo"], "Go"),
            (["$s", "$S", "$e", "_swift", "__swift", "swift_", "symbolic ", "associated conformance"], "Swift"),
            (["_R", "rust_"], "Rust"),
            (["_Z", "__gxx", "__clang", "DW.ref."], "C++"),
        ]
        return runtimes.first { $0.prefixes.contains { name.hasPrefix($0) } }?.origin
    }

    /// Names the linker defines by itself.
    private static let linkers: Set<String> = [
        "_init", "_fini", "__bss_start", "_edata", "_end", "__end__", "end", "edata",
    ]

    /// A plain name is the author's to hide; those of a language's own are worth no more than a warning.
    var verdict: Verdict {
        let others = exported.filter { !$0.name.hasPrefix("chanserv_") && !Self.linkers.contains($0.name) }
        let plain = others.filter { Self.origin(of: $0.name) == nil }.map(\.name)
        var warnings: [String] = []
        let byLanguage = Dictionary(grouping: others.compactMap { Self.origin(of: $0.name) }) { $0 }
        for (language, names) in byLanguage.sorted(by: { $0.key < $1.key }) {
            warnings.append(
                "\(names.count) names of \(language) are exported too; hide them with a version script if you can")
        }
        if let unique = others.first(where: \.isUnique) {
            warnings.append(
                "\(unique.name) is unique in the whole process (STB_GNU_UNIQUE): after a reload old and new code share it; "
                    + "compile with -fno-gnu-unique")
        }
        guard !plain.isEmpty else { return Verdict.judge(failures: [], warnings: warnings) }
        let some = plain.prefix(5).joined(separator: ", ") + (plain.count > 5 ? " …" : "")
        return Verdict.judge(
            failures: [
                "\(plain.count == 1 ? "another name is" : "\(plain.count) other names are") exported: \(some); "
                    + "compile with -fvisibility=hidden, or make it static"
            ], warnings: warnings)
    }
}

extension UnsafeRawBufferPointer {
    /// The caller has checked that the value lies within the buffer.
    fileprivate func little<Value: FixedWidthInteger>(at offset: Int, as type: Value.Type) -> Value {
        Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
}
