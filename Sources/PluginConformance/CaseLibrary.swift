internal import CChanservPlugin
internal import Glibc
internal import PluginRuntime

/// The plugin's library, loaded in the process of a case as the host loads it.
///
/// `@unchecked Sendable`: the addresses are in a library that is never unloaded.
struct CaseLibrary: @unchecked Sendable {
    typealias Entry = @convention(c) () -> UnsafePointer<chanserv_plugin>?

    /// The exported names; `nil` if the library has no symbol table.
    let symbols: DynamicSymbols?
    /// Whether the library contains Go's runtime.
    let isGo: Bool
    let entry: Entry
    /// The descriptor that the entry function returned.
    let pointer: UnsafePointer<chanserv_plugin>?

    /// The reason why the library cannot be loaded, as a sentence.
    struct Problem: Error {
        var message: String
    }

    init(path: String, record: CaseRecord) throws(Problem) {
        let symbols: DynamicSymbols?
        let isGo: Bool
        let copy: String
        let folder: PrivateFolder
        do throws(PluginLoadError) {
            let file = try PluginFile(path: path)
            symbols = DynamicSymbols(try PluginFile.library(file.bytes, path: path))
            isGo = GoRuntime.isPart(of: file.bytes)
            folder = try PrivateFolder(for: path)
            copy = try folder.write(file, as: String(path.split(separator: "/").last ?? "plugin"))
        } catch {
            throw Problem(message: "\(error)")
        }
        record.entered(.link)
        let handle = dlopen(copy, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)
        record.left(.link)
        let reason = handle == nil ? dlerror().map { String(cString: $0) } ?? "unknown error" : ""
        unlink(copy)
        folder.remove()
        guard let handle else {
            throw Problem(message: "the library cannot be linked: \(reason.replacing(copy, with: path))")
        }
        guard let symbol = dlsym(handle, CHANSERV_ENTRY_NAME) else {
            throw Problem(message: "the library does not export \(CHANSERV_ENTRY_NAME)")
        }
        self.symbols = symbols
        self.isGo = isGo
        entry = unsafeBitCast(symbol, to: Entry.self)
        record.entered(.entry)
        pointer = entry()
        record.left(.entry)
    }
}
