internal import CChanservPlugin
internal import Glibc
package import Logging
internal import NIOConcurrencyHelpers

/// Loads libraries and keeps count of them.
///
/// A library is loaded from a private copy, under a name that is never used again, and never unloaded. Bytes that are
/// loaded already are not loaded again, whatever file they come from: another instance is made of the same library.
package final class PluginStore: Sendable {
    /// How libraries are loaded.
    package struct Configuration: Sendable {
        /// Whose files are trusted. The default is this process's user and root.
        package var permissions: PluginPermissions = .current
        /// The largest library, in bytes. The default is 1 GiB.
        package var maximumSize = PluginFile.maximumSize
        /// Where private copies may stand for the moment of loading, in this order.
        package var folders: [String] = PrivateFolder.defaultCandidates
        /// Leaves the copies there for a debugger, which needs the files for their symbols; nobody removes them. The
        /// default is `false`: a copy is removed once it is mapped, so that not even a crash leaves anything behind.
        package var keepsCopies = false
        /// From so many copies in memory on there is a warning at each further one. The default is 100.
        package var warningCount = 100

        package init() {}
    }

    /// The copies in memory.
    package struct Statistics: Sendable, Hashable {
        /// Libraries loaded since the start, refused ones included: none is ever unloaded.
        package var copies = 0
        /// The sizes of their files together, in bytes.
        package var bytes = 0
    }

    private struct State {
        var libraries: [PluginDigest: PluginLibrary] = [:]
        /// What is wrong with bytes that were linked and found to be no plugin: they stay in memory as all others do,
        /// and linking them again would only keep one more copy. Bounded by the copies.
        var refusals: [PluginDigest: PluginLoadError] = [:]
        var statistics = Statistics()
        var copyNumber = 0
    }

    private let configuration: Configuration
    private let logger: Logger
    /// One load at a time, on a thread of its own: constructors of a library run in it.
    private let lane: SerialLane
    private let state = NIOLockedValueBox(State())

    /// - Parameter threads: where libraries are loaded.
    package init(configuration: Configuration = Configuration(), threads: PluginThreads, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        lane = SerialLane(on: threads)
    }

    package var statistics: Statistics { state.withLockedValue { $0.statistics } }

    /// Loads a library, or finds it loaded.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - pin: what its SHA-256 must be.
    /// - Throws: ``PluginLoadError``.
    package func load(_ path: String, pin: PluginDigest? = nil) async throws(PluginLoadError) -> PluginLibrary {
        try await load(try await read(path, pin: pin))
    }

    /// Reads and checks a library; none of its code runs.
    ///
    /// - Parameters: as ``load(_:pin:)``.
    /// - Throws: ``PluginLoadError``.
    package func read(_ path: String, pin: PluginDigest? = nil) async throws(PluginLoadError) -> PluginFile {
        try await lane.run { () -> Result<PluginFile, PluginLoadError> in
            do throws(PluginLoadError) {
                return .success(try self.readHere(path, pin: pin))
            } catch {
                return .failure(error)
            }
        }.get()
    }

    /// Whether these bytes were given to the dynamic linker before: their code has run, for better or worse.
    package func knows(_ digest: PluginDigest) -> Bool {
        state.withLockedValue { $0.libraries[digest] != nil || $0.refusals[digest] != nil }
    }

    /// Loads what was read, or finds it loaded.
    ///
    /// - Throws: ``PluginLoadError``.
    package func load(_ file: PluginFile) async throws(PluginLoadError) -> PluginLibrary {
        try await lane.run { () -> Result<PluginLibrary, PluginLoadError> in
            do throws(PluginLoadError) {
                return .success(try self.loadHere(file))
            } catch {
                return .failure(error)
            }
        }.get()
    }

    /// Everything `load` checks before any code of the library runs: for `chanserv check` of a file that is in use.
    package func examine(_ path: String, pin: PluginDigest? = nil) throws(PluginLoadError) -> PluginDigest {
        try readHere(path, pin: pin).digest
    }

    private func readHere(_ path: String, pin: PluginDigest?) throws(PluginLoadError) -> PluginFile {
        let file = try PluginFile(
            path: path, pin: pin, permissions: configuration.permissions, maximumSize: configuration.maximumSize)
        // What is in memory has what it needs, whatever became of the files.
        if !knows(file.digest) { try Self.checkNeededLibraries(of: file) }
        return file
    }

    private func loadHere(_ file: PluginFile) throws(PluginLoadError) -> PluginLibrary {
        let path = file.path
        let (known, refusal) = state.withLockedValue { ($0.libraries[file.digest], $0.refusals[file.digest]) }
        if let known { return known }
        if var refusal {
            refusal.path = path
            throw refusal
        }

        let handle = try openCopy(of: file)
        let statistics = state.withLockedValue { state in
            state.statistics.copies += 1
            state.statistics.bytes += file.bytes.count
            return state.statistics
        }
        if statistics.copies >= configuration.warningCount {
            logger.warning(
                """
                \(statistics.copies) plugin libraries (\(statistics.bytes) bytes of files) are loaded and stay so \
                until the host ends; restart it when it suits
                """)
        }

        let descriptor: PluginDescriptor
        do throws(PluginLoadError) {
            descriptor = try Self.descriptor(in: handle, path: path)
        } catch {
            state.withLockedValue { $0.refusals[file.digest] = error }
            throw error
        }
        let library = PluginLibrary(
            path: path, digest: file.digest, size: file.bytes.count, descriptor: descriptor)
        state.withLockedValue { $0.libraries[file.digest] = library }
        logger.debug(
            "loaded \(path): \(descriptor.name) \(descriptor.version)", metadata: ["sha256": "\(file.digest)"])
        return library
    }

    /// Looks for the libraries it needs, all of them, where the linker will; that of a process of the plugin's own has the
    /// same surroundings, or less where its `environment` leaves out LD_LIBRARY_PATH.
    private static func checkNeededLibraries(of file: PluginFile) throws(PluginLoadError) {
        let library = try PluginFile.library(file.bytes, path: file.path)
        let surroundings = LibrarySearch.Surroundings.system()
        let search = LibrarySearch(for: library, in: PluginFile.split(file.path).folder, surroundings)
        let problem = search.problem ?? LibrarySearch.escape(of: library, isLoaded: surroundings.isLoaded)
        if let problem { throw PluginLoadError(.missingLibrary, path: file.path, problem) }
    }

    /// Asks the library what it is.
    static func descriptor(
        in handle: UnsafeMutableRawPointer, path: String
    ) throws(PluginLoadError) -> PluginDescriptor {
        guard let entry = dlsym(handle, CHANSERV_ENTRY_NAME) else {
            throw PluginLoadError(
                .noEntry, path: path,
                "does not export \(CHANSERV_ENTRY_NAME); define it with CHANSERV_EXPORT, as chanserv_plugin.h shows")
        }
        typealias Entry = @convention(c) () -> UnsafePointer<chanserv_plugin>?
        do throws(PluginDescriptor.Refusal) {
            return try PluginDescriptor(unsafeBitCast(entry, to: Entry.self)())
        } catch {
            throw PluginLoadError(.badDescriptor, path: path, "is refused: \(error.message)")
        }
    }

    /// Writes the private copy and gives it to the dynamic linker.
    private func openCopy(of file: PluginFile) throws(PluginLoadError) -> UnsafeMutableRawPointer {
        let number = state.withLockedValue { state in
            state.copyNumber += 1
            return state.copyNumber
        }
        let folder = try PrivateFolder(in: configuration.folders, for: file.path)
        let copy: String
        do throws(PluginLoadError) {
            // The name shows in /proc/self/maps and in backtraces.
            let name = file.path.split(separator: "/").last ?? "plugin"
            copy = try folder.write(file, as: "\(number)-\(name)")
        } catch {
            folder.remove()
            throw error
        }
        defer {
            if !configuration.keepsCopies {
                unlink(copy)
                folder.remove()
            }
        }
        guard let handle = dlopen(copy, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) else {
            throw Self.linkFailure(file.path, copy: copy)
        }
        return handle
    }

    /// What the dynamic linker has just complained about.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - copy: what the linker was given in its place, which says nothing to anybody.
    static func linkFailure(_ path: String, copy: String) -> PluginLoadError {
        let reason = dlerror().map { String(cString: $0) } ?? "unknown error"
        let hint =
            reason.contains("cannot open shared object file")
            ? "; a plugin is loaded from a private copy, so $ORIGIN is not its folder: "
                + "link that library statically, or set an absolute rpath" : ""
        return PluginLoadError(
            .linkFailed, path: path, "cannot be linked: \(reason.replacing(copy, with: path))\(hint)")
    }
}
