internal import Glibc
internal import NIOConcurrencyHelpers

/// State of the process that a plugin could change.
struct ProcessState: Sendable {
    private var handlers: [Int32: UInt] = [:]
    private let folder: String
    private let mask: mode_t
    private let environment: [String]
    private let locale: String

    /// The state before the library was loaded.
    static var beforeLoading: ProcessState {
        get { stored.withLockedValue { $0 } ?? ProcessState() }
        set { stored.withLockedValue { $0 = newValue } }
    }

    private static let stored = NIOLockedValueBox<ProcessState?>(nil)

    init() {
        for signal in Int32(1)...64 {
            var action = sigaction()
            guard sigaction(signal, nil, &action) == 0 else { continue }
            handlers[signal] = unsafeBitCast(action.__sigaction_handler.sa_handler, to: UInt.self)
        }
        let path = getcwd(nil, 0)
        folder = path.map { String(cString: $0) } ?? ""
        free(path)
        mask = umask(0)
        umask(mask)
        var environment: [String] = []
        var entry = environ
        while let text = entry.pointee {
            environment.append(String(cString: text))
            entry += 1
        }
        self.environment = environment.sorted()
        locale = setlocale(LC_ALL, nil).map { String(cString: $0) } ?? ""
    }

    /// Returns a sentence for each change.
    func changes(since before: ProcessState) -> [String] {
        var changes: [String] = []
        for signal in handlers.keys.sorted() where handlers[signal] != before.handlers[signal] {
            changes.append("a handler for signal \(signal) was installed")
        }
        if folder != before.folder { changes.append("the working directory changed to \(folder)") }
        if mask != before.mask {
            changes.append("the umask changed from \(String(before.mask, radix: 8)) to \(String(mask, radix: 8))")
        }
        let different = Set(environment).symmetricDifference(before.environment)
        let names = Set(different.map { String($0.prefix { $0 != "=" }) }).sorted()
        if !names.isEmpty { changes.append("the environment changed: \(names.prefix(5).joined(separator: ", "))") }
        if locale != before.locale { changes.append("the locale changed from \(before.locale) to \(locale)") }
        return changes
    }
}
