/// The names a shared library exports.
struct DynamicSymbols {
    struct Symbol: Hashable {
        var name: String
        /// `STB_GNU_UNIQUE`: one for the whole process, whatever the library was loaded with.
        var isUnique: Bool
    }

    private(set) var exported: [Symbol] = []

    /// - Returns: `nil` where it has no table of them.
    init?(_ library: ELFLibrary) {
        guard let table = ELFSymbolTable(library.dynamic) else { return nil }
        let _: Void? = table.first { symbol, names in
            if symbol.isDefined, symbol.isVisible, let name = names.text(at: symbol.name) {
                exported.append(Symbol(name: name, isUnique: symbol.isUnique))
            }
            return nil
        }
        exported.sort { $0.name < $1.name }
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
