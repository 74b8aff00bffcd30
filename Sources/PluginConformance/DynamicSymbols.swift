internal import PluginRuntime

/// The names that a shared library exports.
struct DynamicSymbols {
    private(set) var exported: [String] = []

    /// - Returns: `nil` if the library has no symbol table.
    init?(_ library: ELFLibrary) {
        guard let table = ELFSymbolTable(library.dynamic) else { return nil }
        table.forEachVisible { symbol, name in if symbol.isDefined { exported.append(name) } }
        exported.sort()
    }
}

extension DynamicSymbols {
    /// Returns the language whose runtime or compiler exports the name, if the author cannot easily hide it.
    private static func origin(of name: String) -> String? {
        let runtimes: [(prefixes: [String], origin: String)] = [
            (["_cgo_", "x_cgo_", "_cgoexp", "crosscall", "go.", "runtime.", "local.", "cgo"], "Go"),
            (["$s", "$S", "$e", "_swift", "__swift", "swift_", "symbolic ", "associated conformance"], "Swift"),
            (["_R", "rust_"], "Rust"),
            (["_Z", "__gxx", "__clang", "DW.ref."], "C++"),
        ]
        return runtimes.first { $0.prefixes.contains { name.hasPrefix($0) } }?.origin
    }

    /// A name of the author is a failure, because the author can hide it. Names of a language's runtime are a warning.
    var verdict: Verdict {
        let others = exported.filter { !$0.hasPrefix("chanserv_") && !ELFSymbolTable.linkerSymbols.contains($0) }
        let plain = others.filter { Self.origin(of: $0) == nil }
        var warnings: [String] = []
        let byLanguage = Dictionary(grouping: others.compactMap { Self.origin(of: $0) }) { $0 }
        for (language, names) in byLanguage.sorted(by: { $0.key < $1.key }) {
            warnings.append(
                "\(names.count) names of \(language) are exported; hide them with a version script if possible")
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
