internal import CChanservPlugin
internal import HostConfiguration
internal import PluginRuntime

extension ConformanceCase {
    /// The library and its descriptor.
    static let loading = [
        ConformanceCase(loadName, "the library links by itself, and its entry returns a descriptor") { run in
            run.library.pointer == nil
                ? Verdict(.fail, ["\(CHANSERV_ENTRY_NAME)() returned NULL: the plugin refuses to load"])
                : Verdict(.pass)
        },
        ConformanceCase(
            "descriptor", "magic, versions, sizes, flags and names are right, and no function is NULL"
        ) { run in
            do throws(PluginDescriptor.Refusal) {
                _ = try PluginDescriptor(run.library.pointer)
            } catch {
                return Verdict(.fail, [error.message])
            }
            return Verdict.judge(failures: [], warnings: warnings(about: run.library.pointer!.pointee))
        },
        ConformanceCase(
            "constant", "the descriptor never changes: a second call of the entry returns the same one"
        ) { run in
            guard let pointer = run.library.pointer else { throw CaseEnd(.skip, "there is no descriptor") }
            let size = Int(min(pointer.pointee.struct_size, UInt32(MemoryLayout<chanserv_plugin>.size)))
            let bytes = UnsafeRawBufferPointer(start: pointer, count: size)
            let before = Array(bytes)
            var failures: [String] = []
            run.record.entered(.entry)
            let second = run.library.entry()
            run.record.left(.entry)
            if second != pointer { failures.append("a second call of the entry returned another pointer") }
            try run.exercise(run.plugin())
            if !bytes.elementsEqual(before) { failures.append("the descriptor's bytes changed while it was used") }
            return Verdict.judge(failures: failures)
        },
        ConformanceCase("symbols", "only \(CHANSERV_ENTRY_NAME) and other names with chanserv_ are exported") {
            run in
            guard let symbols = run.library.symbols else {
                return Verdict(.warn, ["the library has no symbol table"])
            }
            return symbols.verdict
        },
    ]

    /// Returns warnings about values that a host accepts but that may be mistakes.
    private static func warnings(about plugin: chanserv_plugin) -> [String] {
        var warnings: [String] = []
        if plugin.struct_size > UInt32(MemoryLayout<chanserv_plugin>.size) {
            warnings.append(
                "struct_size is \(plugin.struct_size), more than this host's \(MemoryLayout<chanserv_plugin>.size): "
                    + "the plugin was built with a newer header, or the value is not sizeof(struct chanserv_plugin)")
        }
        if plugin.abi_minor > UInt16(CHANSERV_ABI_MINOR) {
            warnings.append("abi_minor is \(plugin.abi_minor), newer than this host's \(CHANSERV_ABI_MINOR)")
        }
        for (field, text) in [("name", plugin.name), ("version", plugin.version)] {
            guard let text = text.map({ String(cString: $0) }) else { continue }
            if text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
                warnings.append("the \(field) contains control characters: \(quoted(text))")
            }
        }
        if plugin.version.map({ $0.pointee == 0 }) == true { warnings.append("the version is empty") }
        return warnings
    }
}
