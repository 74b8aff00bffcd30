internal import CChanservPlugin

extension ConformanceCase {
    /// The library and its descriptor.
    static let loading = [
        ConformanceCase(loadName, "the library links by itself, and its entry returns a descriptor") { run in
            run.library.pointer == nil
                ? Verdict(.fail, ["\(CHANSERV_ENTRY_NAME)() returned NULL: it refuses to load"]) : Verdict(.pass)
        },
        ConformanceCase(
            "descriptor", "magic, versions, sizes, flags and names are right, and no function is NULL"
        ) { run in
            do throws(PluginDescriptor.Refusal) {
                _ = try PluginDescriptor(run.library.pointer)
            } catch {
                return Verdict(.fail, [error.message])
            }
            return Verdict.judge(failures: [], warnings: doubts(about: run.library.pointer!.pointee))
        },
        ConformanceCase(
            "constant", "the descriptor stays where and as it is: a second call of the entry returns the same"
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
        ConformanceCase("symbols", "nothing is exported but \(CHANSERV_ENTRY_NAME) and other names with chanserv_") {
            run in
            guard let symbols = run.library.symbols else {
                return Verdict(.warn, ["it has no table of the names it exports"])
            }
            return symbols.verdict
        },
    ]

    /// What a host accepts and its author may not mean.
    private static func doubts(about plugin: chanserv_plugin) -> [String] {
        var doubts: [String] = []
        if plugin.struct_size > UInt32(MemoryLayout<chanserv_plugin>.size) {
            doubts.append(
                "struct_size is \(plugin.struct_size), more than this host's \(MemoryLayout<chanserv_plugin>.size): "
                    + "it was built with a newer header, or it is not sizeof(struct chanserv_plugin)")
        }
        if plugin.abi_minor > UInt16(CHANSERV_ABI_MINOR) {
            doubts.append("abi_minor is \(plugin.abi_minor), newer than this host's \(CHANSERV_ABI_MINOR)")
        }
        for (field, text) in [("name", plugin.name), ("version", plugin.version)] {
            guard let text = text.map({ String(cString: $0) }) else { continue }
            if text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
                doubts.append("its \(field) has control characters: \(quoted(text))")
            }
        }
        if plugin.version.map({ $0.pointee == 0 }) == true { doubts.append("its version is empty") }
        return doubts
    }
}
