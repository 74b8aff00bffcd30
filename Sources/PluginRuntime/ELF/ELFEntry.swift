/// State of the entry function in the file of a library.
package enum ELFEntry: Hashable, Sendable {
    case exported
    /// The file has no symbol of that name.
    case absent
    /// The symbol exists and is hidden. The library was compiled with -fvisibility=hidden or linked with a version
    /// script.
    case hidden
    /// The library uses the function and does not define it.
    case undefined
    /// The symbol is a variable.
    case notAFunction
    /// The symbol has a C++ name.
    case mangled
    /// The file has an entry function for another major version of the plugin ABI.
    case otherVersion(String)

    /// Name of the entry function, the same as CHANSERV_ENTRY_NAME.
    package static let name: StaticString = "chanserv_plugin_v1"

    init(_ file: ELFBytes, _ header: ELFHeader, _ dynamic: ELFDynamic) {
        let table = ELFSymbolTable(dynamic)
        if let symbol = table?.exported(Self.name) {
            if symbol.isVisible { self = symbol.isFunction ? .exported : .notAFunction } else { self = .hidden }
            return
        }
        // The symbol is not exported. The following finds the reason.
        if ELFSections(file, header.sectionHeaders)?.defines(Self.name) == true {
            self = .hidden
            return
        }
        self =
            table?.first { symbol, names in
                if names.hasText(Self.name, at: symbol.name) { return symbol.isDefined ? .hidden : .undefined }
                if !symbol.isDefined { return nil }
                if names.hasText("_Z18chanserv_plugin_v1v", at: symbol.name) { return .mangled }
                guard names.hasPrefix("chanserv_plugin_v", at: symbol.name),
                    let name = names.text(at: symbol.name, maximum: 24)
                else { return nil }
                return .otherVersion(name)
            } ?? .absent
    }

    /// The error and its remedy; `nil` if there is no error.
    package var problem: String? {
        let remedy = "define it with CHANSERV_EXPORT, as chanserv_plugin.h shows"
        switch self {
        case .exported:
            return nil
        case .absent:
            return "does not export \(Self.name); \(remedy)"
        case .hidden:
            return "has \(Self.name) but hides it (-fvisibility=hidden, static, or a version script); \(remedy)"
        case .undefined:
            return "does not define \(Self.name), it only uses it; link the file that defines it as well"
        case .notAFunction:
            return "exports \(Self.name) as a variable; it must be the function that chanserv_plugin.h declares"
        case .mangled:
            return "exports \(Self.name) under a C++ name; include chanserv_plugin.h before it, "
                + "or declare it extern \"C\""
        case .otherVersion(let name):
            return "exports \(name) and not \(Self.name): it is for another major version of the plugin ABI; "
                + "build it with this host's chanserv_plugin.h"
        }
    }
}
