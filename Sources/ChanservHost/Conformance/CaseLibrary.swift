internal import CChanservPlugin
internal import Glibc

/// The plugin's library in the process of a case: loaded as the host loads it.
///
/// `@unchecked Sendable`: addresses in a library that is never unloaded.
struct CaseLibrary: @unchecked Sendable {
    typealias Entry = @convention(c) () -> UnsafePointer<chanserv_plugin>?

    /// What it exports; `nil` where that cannot be told.
    let symbols: DynamicSymbols?
    /// Whether it brings Go's runtime along.
    let isGo: Bool
    let entry: Entry
    /// What the entry returned.
    let pointer: UnsafePointer<chanserv_plugin>?

    /// Why it cannot be loaded, a sentence.
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
            throw Problem(message: "it \(error.message)")
        }
        record.entered(.link)
        let handle = dlopen(copy, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)
        record.left(.link)
        let reason = handle == nil ? dlerror().map { String(cString: $0) } ?? "unknown error" : ""
        unlink(copy)
        folder.remove()
        guard let handle else {
            throw Problem(message: "it cannot be linked: \(reason.replacing(copy, with: path))")
        }
        guard let symbol = dlsym(handle, CHANSERV_ENTRY_NAME) else {
            throw Problem(message: "it does not export \(CHANSERV_ENTRY_NAME)")
        }
        self.symbols = symbols
        self.isGo = isGo
        entry = unsafeBitCast(symbol, to: Entry.self)
        record.entered(.entry)
        pointer = entry()
        record.left(.entry)
    }
}
