extension LibrarySearch {
    /// Message about missing libraries with the remedy; `nil` if none is missing.
    package var problem: String? {
        if missing.isEmpty { return nil }
        let names = missing.prefix(Self.maximumNames).map { library in
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
            a plugin is loaded from a private copy, so $ORIGIN is not its folder: link the libraries there statically, \
            or set an absolute rpath (-Wl,-rpath,\(origin))
            """
            : """
            install the missing libraries, link them statically, set an absolute rpath (-Wl,-rpath,/its/folder), or \
            start the host with LD_LIBRARY_PATH
            """
        return "needs \(what) not found: \(names.joined(separator: ", "))\(more); \(ways)"
    }

    /// Message about files that the linker will not use, with the remedy; `nil` if there are none.
    package var conflictProblem: String? {
        if conflicts.isEmpty { return nil }
        let names = conflicts.prefix(Self.maximumNames).map { conflict in
            conflict.loaded.path == conflict.path
                ? "\(conflict.path) has changed since it was loaded"
                : "\(conflict.loaded.path) is loaded as \(conflict.name), not \(conflict.path)"
        }
        // A worker process has the libraries of the host itself too.
        let ways =
            conflicts.contains { $0.loaded.content == nil && $0.loaded.path != $0.path }
            ? "give the library another soname, or link it statically"
            : "set isolation: process for this plugin, give the library another soname, or restart the host"
        return """
            needs a library that a process cannot have twice: \(names.joined(separator: "; ")); \(ways)
            """
    }

    /// Maximum number of libraries that one message names.
    private static let maximumNames = 20

    /// Returns why a search path of the plugin is dangerous, or `nil` if it is not.
    ///
    /// For the private copy `$ORIGIN` is an empty folder of the host. But a folder above it may be `/tmp`, where every
    /// user can place a library with the name that the linker searches for.
    package static func escape(
        of plugin: ELFLibrary, loaded: (_ name: String) -> Loaded?
    ) -> String? {
        let paths = plugin.dynamic.runPath.isEmpty ? plugin.dynamic.rPath : plugin.dynamic.runPath
        let needed = plugin.dynamic.neededLibraries.filter { loaded($0) == nil }
        guard
            let path = (paths + needed).first(where: { path in
                path.contains("$") && path.split(separator: "/").contains("..")
            }), !needed.isEmpty
        else { return nil }
        return """
            looks for \(needed.joined(separator: ", ")) in '\(path)'; a plugin is loaded from a private copy, so \
            $ORIGIN is not its folder, and every user may place libraries above the copy: set an absolute rpath instead
            """
    }
}
