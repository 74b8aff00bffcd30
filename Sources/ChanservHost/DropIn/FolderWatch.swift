@preconcurrency internal import Dispatch
internal import Glibc
internal import HostConfiguration
internal import Logging
internal import PluginRuntime

/// Watches a drop-in folder with inotify and reports when it has changed and settled.
///
/// All state is used only on `queue`. A periodic rescan finds changes that the kernel does not report, as on network
/// file systems; it compares the results of stat(2).
///
/// `@unchecked Sendable`: every access to a variable happens on the serial queue `queue`: `start` and `cancel` go
/// through it, and all sources have it as their target. `init` runs before any of them.
final class FolderWatch: @unchecked Sendable {
    private let folder: String
    private let logger: Logger
    private let onChange: @Sendable () -> Void
    private let queue = DispatchQueue(label: "chanserv.drop-ins")
    private var machine: SettleMachine
    private var descriptor: CInt = -1
    private var events: ReadSource?
    private var settleTimer: (any DispatchSourceTimer)?
    private var rescanTimer: (any DispatchSourceTimer)?
    /// The folders of each watch descriptor. A folder that is reached by several paths has one.
    private var folders: [CInt: Set<String>] = [:]
    private var paths: WatchedPaths
    private var signature: [String: FileSignature] = [:]
    private var hasWarned = false

    /// Time between two rescans; `nil` for none.
    private let rescanInterval: Duration?

    /// - Parameters:
    ///   - onChange: called when the folder has changed and settled. Must return at once.
    init(_ options: DropInOptions, logger: Logger, onChange: @escaping @Sendable () -> Void) {
        folder = options.folder
        self.logger = logger
        self.onChange = onChange
        rescanInterval = options.rescan
        machine = SettleMachine(settle: options.settle, maxSettle: options.maxSettle)
        paths = WatchedPaths(folder: options.folder)
    }

    /// Begins to watch. Changes from now on are reported.
    func start() {
        queue.async { self.begin() }
    }

    private func begin() {
        openInotify()
        watch()
        signature = currentSignature()
        // The folder may have changed since the host read it.
        perform(machine.changed(at: .now))
        guard let rescanInterval else { return }
        let interval = Self.dispatchInterval(rescanInterval)
        let timer = DispatchSource.makeTimerSource(queue: queue)
        timer.schedule(deadline: .now() + interval, repeating: interval, leeway: .seconds(1))
        timer.setEventHandler { [weak self] in self?.rescan() }
        rescanTimer = timer
        timer.activate()
    }

    private func openInotify() {
        let opened = inotify_init1(CInt(IN_CLOEXEC) | CInt(IN_NONBLOCK))
        guard opened >= 0 else { return warn("fs.inotify.max_user_instances", errno) }
        let source = ReadSource(
            opened, on: queue, onReadable: { [weak self] _ in self?.readEvents() }, onCancel: { close(opened) })
        do throws(ProcessError) {
            try source.activate()
            (events, descriptor) = (source, opened)
        } catch {
            source.cancel()
            logger.warning("drop-ins: \(error); changes of \(folder) are found by the rescan")
        }
    }

    /// Ends the reports soon. Does not wait, because the file system may block the queue.
    func cancel() {
        queue.async { [self] in
            events?.cancel()
            settleTimer?.cancel()
            rescanTimer?.cancel()
            (events, settleTimer, rescanTimer, descriptor) = (nil, nil, nil, -1)
        }
    }

    /// Makes the watches fit the links that exist now.
    private func watch() {
        paths = WatchedPaths(folder: folder)
        guard descriptor >= 0 else { return }
        let wanted = Set(paths.names.keys)
        for (watch, paths) in folders {
            folders[watch] = paths.intersection(wanted)
            if folders[watch]?.isEmpty == true {
                inotify_rm_watch(descriptor, watch)
                folders[watch] = nil
            }
        }
        let mask =
            UInt32(IN_CLOSE_WRITE) | UInt32(IN_MOVED_TO) | UInt32(IN_MOVED_FROM) | UInt32(IN_CREATE)
            | UInt32(IN_DELETE) | UInt32(IN_ATTRIB) | UInt32(IN_DELETE_SELF) | UInt32(IN_MOVE_SELF)
            | UInt32(IN_ONLYDIR)
        // A folder that was removed and made again has another watch, so each is added anew; the kernel returns the
        // existing one for a folder that it watches.
        for folder in wanted {
            let watch = inotify_add_watch(descriptor, folder.systemString, mask)
            if watch >= 0 {
                folders[watch, default: []].insert(folder)
            } else if errno == ENOSPC {
                warn("fs.inotify.max_user_watches", errno)
            }
        }
    }

    private func warn(_ limit: String, _ code: CInt) {
        guard !hasWarned else { return }
        hasWarned = true
        let reason = String(cString: strerror(code))
        logger.warning("drop-ins: cannot watch \(folder) (\(reason)): raise \(limit); changes are found by the rescan")
    }

    /// Reads all events that the kernel has queued.
    private func readEvents() {
        var relevance = Relevance.none
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            relevance = max(relevance, self.relevance(of: buffer[..<count]))
        }
        switch relevance {
        case .none: break
        case .begun: perform(machine.mayHaveChanged(at: .now))
        case .changed: perform(machine.changed(at: .now))
        }
    }

    /// What events say about the drop-ins.
    private enum Relevance: Int, Comparable {
        case none
        /// A file was created. Its writer closes it, which is another event, unless it was linked.
        case begun
        case changed

        static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    /// Returns the greatest relevance of the events. The kernel writes whole events: a header of 16 bytes, then a name
    /// that is padded with zeros.
    private func relevance(of bytes: ArraySlice<UInt8>) -> Relevance {
        bytes.withUnsafeBytes { bytes in
            var relevance = Relevance.none
            var offset = 0
            while offset + 16 <= bytes.count {
                let watch = bytes.loadUnaligned(fromByteOffset: offset, as: CInt.self)
                let mask = bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
                let length = Int(bytes.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
                guard length <= bytes.count - offset - 16 else { return .changed }
                let padded = bytes[(offset + 16)..<(offset + 16 + length)]
                let name = String(decoding: padded.prefix { $0 != 0 }, as: UTF8.self)
                offset += 16 + length
                let concernsFolder = UInt32(IN_Q_OVERFLOW) | UInt32(IN_DELETE_SELF) | UInt32(IN_MOVE_SELF)
                if mask & UInt32(IN_IGNORED) != 0 { folders[watch] = nil }
                if mask & concernsFolder != 0 {
                    relevance = .changed
                } else if let folder = folders[watch]?.first(where: { paths.isWatched(name, in: $0) }) {
                    let isNew = mask & UInt32(IN_CREATE) != 0 && Self.isPlainFile("\(folder)/\(name)")
                    relevance = max(relevance, isNew ? .begun : .changed)
                }
            }
            return relevance
        }
    }

    /// Whether a file has one name and is no symbolic link.
    private static func isPlainFile(_ path: String) -> Bool {
        var status = stat()
        return lstat(path.systemString, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && status.st_nlink == 1
    }

    /// Returns a duration of at most a year, rounded up. A negative one is 0.
    private static func dispatchInterval(_ duration: Duration) -> DispatchTimeInterval {
        let (seconds, attoseconds) = max(.zero, duration).components
        return .nanoseconds(Int(seconds) * 1_000_000_000 + Int(attoseconds / 1_000_000_000) + 1)
    }

    private func rescan() {
        watch()
        let now = currentSignature()
        guard now != signature else { return }
        signature = now
        perform(machine.changed(at: .now))
    }

    private func perform(_ action: SettleMachine.Action) {
        switch action {
        case .doNothing: break
        case .wait(let end):
            settleTimer?.cancel()
            let timer = DispatchSource.makeTimerSource(queue: queue)
            timer.schedule(deadline: .now() + Self.dispatchInterval(ContinuousClock.now.duration(to: end)))
            timer.setEventHandler { [weak self] in
                guard let self else { return }
                perform(machine.timerFired(at: .now))
            }
            settleTimer = timer
            timer.activate()
        case .read:
            // The watches first: a change after this line is reported again.
            watch()
            signature = currentSignature()
            onChange()
        }
    }

    /// What stat(2) says about a file.
    private struct FileSignature: Hashable {
        var device: UInt
        var inode: UInt
        var size: Int
        var changed: timespec

        static func == (left: Self, right: Self) -> Bool {
            left.device == right.device && left.inode == right.inode && left.size == right.size
                && left.changed.tv_sec == right.changed.tv_sec && left.changed.tv_nsec == right.changed.tv_nsec
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(inode)
            hasher.combine(size)
        }
    }

    private func currentSignature() -> [String: FileSignature] {
        var result: [String: FileSignature] = [:]
        // If the folder cannot be read, the host reports that when it reads the drop-ins.
        for name in (try? namesOfFolder(folder)) ?? [] {
            var status = stat()
            guard DropInNames.isConsidered(name), stat("\(folder)/\(name)".systemString, &status) == 0 else { continue }
            result[name] = FileSignature(
                device: UInt(status.st_dev), inode: UInt(status.st_ino), size: Int(status.st_size),
                changed: status.st_ctim)
        }
        return result
    }
}
