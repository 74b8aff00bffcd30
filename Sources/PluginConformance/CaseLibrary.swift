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
        let linkage: PluginLinkage
        do throws(PluginLoadError) {
            let file = try PluginFile(path: path)
            symbols = DynamicSymbols(try PluginFile.library(file.bytes, path: path))
            isGo = GoRuntime.isPart(of: file.bytes)
            linkage = try PluginLinkage(file.bytes, digest: file.digest, path: path)
            folder = try PrivateFolder(for: path)
            copy = try folder.write(
                linkage.changedBytes ?? file.bytes, of: path, as: String(path.split(separator: "/").last ?? "plugin"))
        } catch {
            throw Problem(message: "\(error)")
        }
        record.entered(.link)
        let handle: UnsafeMutableRawPointer
        do throws(PluginLoadError) {
            defer {
                record.left(.link)
                unlink(copy)
                folder.remove()
            }
            handle = try linkage.open(copy)
        } catch {
            throw Problem(message: "\(error)")
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
