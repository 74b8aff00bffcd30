internal import Glibc

/// Symbols of the libraries with which this process was started. The dynamic linker looks up every symbol there first,
/// also those that a plugin defines itself.
struct GlobalScope {
    /// The C++ runtime of the process; `nil` if the plugin does not use it.
    private let cxxRuntime: UnsafeMutableRawPointer?
    private let cLibrary: UnsafeMutableRawPointer?

    /// - Parameter needs: whether the plugin needs a library of this name.
    init(needs: (_ name: String) -> Bool) {
        let name = ["libstdc++.so.6", "libc++.so.1"].first(where: needs)
        cxxRuntime = name.flatMap(Self.handle)
        cLibrary = Self.handle("libc.so.6")
    }

    /// Whether the process's definition of `name` must not replace that of a plugin.
    func overrides(_ name: String) -> Bool {
        !Self.allocator.contains(name) && !ELFSymbolTable.linkerSymbols.contains(name) && defines(name)
            && !isOfCxxRuntime(name)
    }

    /// Whether the process has its own allocator, for example from `LD_PRELOAD`.
    var hasOwnAllocator: Bool {
        guard let cLibrary else { return false }
        return dlsym(nil, "malloc") != dlsym(cLibrary, "malloc")
    }

    /// Whether the process defines `name`.
    func defines(_ name: String) -> Bool { Self.find(name, in: nil) }

    /// Whether `name` belongs to the C++ runtime that the plugin uses together with the host. Both must use the same
    /// variables, for example the empty string of the old ABI, which is compared by its address.
    func isOfCxxRuntime(_ name: String) -> Bool {
        guard let cxxRuntime, name.hasPrefix("_Z") || name.hasPrefix("__cxa_") || name.hasPrefix("__gxx_") else {
            return false
        }
        return Self.find(name, in: cxxRuntime)
    }

    private static func find(_ name: String, in library: UnsafeMutableRawPointer?) -> Bool {
        if dlsym(library, name) != nil { return true }
        // Clears the message, which plugin code could read.
        _ = dlerror()
        return false
    }

    private static func handle(_ name: String) -> UnsafeMutableRawPointer? {
        dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD)
    }

    /// A process has one allocator, because a plugin frees memory that the C library has allocated, for example with
    /// `strdup`.
    private static let allocator: Set<String> = [
        "malloc", "calloc", "realloc", "reallocarray", "free", "cfree", "memalign", "aligned_alloc", "posix_memalign",
        "valloc", "pvalloc", "malloc_usable_size", "mallinfo", "mallinfo2", "malloc_info", "malloc_stats",
        "malloc_trim", "mallopt",
    ]
}
