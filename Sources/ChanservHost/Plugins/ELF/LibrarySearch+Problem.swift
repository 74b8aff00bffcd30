extension LibrarySearch {
    /// What is wrong with what a plugin needs, in one message with the way out; `nil` when nothing is.
    package var problem: String? {
        if missing.isEmpty { return nil }
        let names = missing.prefix(Self.namesSaid).map { library in
            var text = library.name
            if let path = library.neededBy { text += " (for \(path))" }
            if let path = library.besideThePlugin { text += " (there is \(path))" }
            if !library.refused.isEmpty { text += " (not taken: \(library.refused.joined(separator: ", ")))" }
            return text
        }
        let what = missing.count == 1 ? "a library that is" : "\(missing.count) libraries that are"
        let more = missing.count > names.count ? " and \(missing.count - names.count) more" : ""
        let ways =
            missing.contains { $0.besideThePlugin != nil }
            ? """
            a plugin is loaded from a private copy, so $ORIGIN is not its folder: link what stands there statically, \
            or set an absolute rpath (-Wl,-rpath,\(origin))
            """
            : """
            install what is missing, link it statically, set an absolute rpath (-Wl,-rpath,/its/folder), or start the \
            host with LD_LIBRARY_PATH
            """
        return "needs \(what) not found: \(names.joined(separator: ", "))\(more); \(ways)"
    }

    /// So many are named in one message.
    private static let namesSaid = 20

    /// Why a search path of the plugin is dangerous; `nil` when it is not.
    ///
    /// From the private copy `$ORIGIN` is an empty folder of the host's, but what is above it may be `/tmp`, where
    /// everybody can put a library of the name the linker looks for.
    package static func escape(
        of plugin: ELFLibrary, isLoaded: (_ name: String) -> Bool
    ) -> String? {
        let paths = plugin.dynamic.runPath.isEmpty ? plugin.dynamic.rPath : plugin.dynamic.runPath
        let needed = plugin.dynamic.neededLibraries.filter { !isLoaded($0) }
        guard
            let path = (paths + needed).first(where: { path in
                path.contains("$") && path.split(separator: "/").contains("..")
            }), !needed.isEmpty
        else { return nil }
        return """
            looks for \(needed.joined(separator: ", ")) in '\(path)'; a plugin is loaded from a private copy, so $ORIGIN \
            is not its folder, and above the copy's everybody may put libraries: set an absolute rpath instead
            """
    }
}
