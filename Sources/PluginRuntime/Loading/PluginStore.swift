internal import CChanservPlugin
internal import Glibc
package import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers

/// Loader of libraries, which counts the copies in memory.
///
/// Each library is loaded from a private copy with a new name and is never unloaded. Bytes that are already loaded are
/// not loaded again, even from another file; the existing library is reused.
package final class PluginStore: Sendable {
    /// Settings for loading libraries.
    package struct Configuration: Sendable {
        /// Owners whose files are accepted. The default is this process's user and root.
        package var permissions: PluginPermissions = .current
        /// Maximum size of a library in bytes. The default is 1 GiB.
        package var maximumSize = PluginFile.maximumSize
        /// Candidate folders for the private copies during loading, in order of preference.
        package var folders: [String] = PrivateFolder.defaultCandidates
        /// Whether to keep the copies for a debugger, which needs the files for their symbols. The host never removes
        /// kept copies. By default a copy is removed once it is mapped, so that even a crash leaves no file behind.
        package var keepsCopies = false
        /// Number of copies in memory from which each further one causes a warning. The default is 100.
        package var warningCount = 100

        package init() {}
    }

    /// Copies in memory.
    package struct Statistics: Sendable, Hashable {
        /// Number of libraries loaded since the start, including rejected ones. None is ever unloaded.
        package var copies = 0
        /// Total size of their files in bytes.
        package var bytes = 0

        package init(copies: Int = 0, bytes: Int = 0) {
            self.copies = copies
            self.bytes = bytes
        }
    }

    private struct State {
        var libraries: [PluginDigest: PluginLibrary] = [:]
        /// Errors of bytes that were linked and turned out not to be a plugin. They stay in memory like all others, and
        /// linking them again would add another copy. Bounded by the number of copies.
        var refusals: [PluginDigest: PluginLoadError] = [:]
        var statistics = Statistics()
        var copyNumber = 0
    }

    private let configuration: Configuration
    private let logger: Logger
    /// Runs one load at a time on plugin threads, because loading runs the constructors of a library.
    private let lane: SerialLane
    private let state = NIOLockedValueBox(State())

    /// - Parameter threads: threads that load libraries.
    package init(configuration: Configuration = Configuration(), threads: PluginThreads, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        lane = SerialLane(on: threads)
    }

    package var statistics: Statistics { state.withLockedValue { $0.statistics } }

    /// Loads a library, or returns it if it is already loaded.
    ///
    /// - Parameters:
    ///   - path: path of the file.
    ///   - pin: the SHA-256 that the file must have; `nil` accepts any.
    /// - Throws: ``PluginLoadError``.
    package func load(_ path: String, pin: PluginDigest? = nil) async throws(PluginLoadError) -> PluginLibrary {
        try await load(try await read(path, pin: pin))
    }

    /// Reads and checks a library without running any of its code.
    ///
    /// - Parameters:
    ///   - path: path of the file.
    ///   - pin: the SHA-256 that the file must have; `nil` accepts any.
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

    /// Whether these bytes were passed to the dynamic linker before, so that their code has already run.
    package func knows(_ digest: PluginDigest) -> Bool {
        state.withLockedValue { $0.libraries[digest] != nil || $0.refusals[digest] != nil }
    }

    /// Loads a file that was read, or returns its library if it is already loaded.
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

    /// Performs every check that `load` performs before any code of the library runs. Used by `chanserv check` for a
    /// file that is in use.
    package func examine(_ path: String, pin: PluginDigest? = nil) throws(PluginLoadError) -> PluginDigest {
        try readHere(path, pin: pin).digest
    }

    private func readHere(_ path: String, pin: PluginDigest?) throws(PluginLoadError) -> PluginFile {
        var file = try PluginFile(
            path: path, pin: pin, permissions: configuration.permissions, maximumSize: configuration.maximumSize)
        let library = try PluginFile.library(file.bytes, path: path)
        let surroundings = LibrarySearch.Surroundings.system()
        // A worker process has the same environment, or less if its `environment` omits LD_LIBRARY_PATH.
        let search = LibrarySearch(for: library, in: PluginFile.split(path).folder, surroundings)
        file.needed = search.libraries.map(\.library)
        file.warning = PluginFile.warning(about: library)
        // A library that is loaded already has all libraries it needs, even if their files are gone.
        if !knows(file.digest) {
            let problem = search.problem ?? LibrarySearch.escape(of: library, loaded: surroundings.loaded)
            if let problem { throw PluginLoadError(.missingLibrary, path: path, problem) }
        }
        return file
    }

    /// Checks what ``load(_:)`` checks before it runs code of the library: conflicts with libraries in this process.
    /// Blocks.
    ///
    /// - Throws: ``PluginLoadError``.
    package func checkLinkage(of file: PluginFile) throws(PluginLoadError) {
        if knows(file.digest) {
            try PluginLinkage.checkConflicts(of: file)
        } else {
            _ = try PluginLinkage(file.bytes, digest: file.digest, path: file.path)
        }
    }

    private func loadHere(_ file: PluginFile) throws(PluginLoadError) -> PluginLibrary {
        let path = file.path
        let (known, refusal) = state.withLockedValue { ($0.libraries[file.digest], $0.refusals[file.digest]) }
        if let known {
            try PluginLinkage.checkConflicts(of: file)
            return known
        }
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
                \(statistics.copies) plugin libraries (\(statistics.bytes) bytes of files) are loaded and are never \
                unloaded; restart the host to free their memory
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

    /// Calls the library's entry function and validates the descriptor.
    package static func descriptor(
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

    /// Writes the private copy and passes it to the dynamic linker.
    private func openCopy(of file: PluginFile) throws(PluginLoadError) -> UnsafeMutableRawPointer {
        let linkage = try PluginLinkage(file.bytes, digest: file.digest, path: file.path)
        let number = state.withLockedValue { state in
            state.copyNumber += 1
            return state.copyNumber
        }
        let folder = try PrivateFolder(in: configuration.folders, for: file.path)
        let copy: String
        do throws(PluginLoadError) {
            // The name appears in /proc/self/maps and in backtraces.
            let name = file.path.split(separator: "/").last ?? "plugin"
            copy = try folder.write(linkage.changedBytes ?? file.bytes, of: file.path, as: "\(number)-\(name)")
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
        return try linkage.open(copy)
    }
}
