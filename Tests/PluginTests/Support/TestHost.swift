import CChanservPlugin
import Foundation

/// A minimal host table: a configuration of flat keys, a readable log, and wakes for which tests can wait.
final class TestHost: @unchecked Sendable {
    // Sendable: the table never changes, and everything else is protected by the lock.
    let table: UnsafeMutablePointer<chanserv_host>
    private let lock = NSCondition()
    private let configuration: [String: ConfigurationValue]
    private var lines: [String] = []
    private var texts: [UnsafeMutablePointer<CChar>] = []

    init(_ configuration: [String: ConfigurationValue]) {
        self.configuration = configuration
        // The ABI requires that the table stays readable for ever, and so must the object that the callbacks find by
        // its address.
        table = .allocate(capacity: 1)
        table.initialize(to: makeTable())
        hosts.insert(self, for: UInt(bitPattern: table))
    }

    var log: [String] { lock.withLock { lines } }

    fileprivate func append(_ line: String) {
        lock.withLock {
            lines.append(line)
            lock.broadcast()
        }
    }

    /// Waits until a matching line was logged.
    func waitForLine(_ matches: (String) -> Bool) throws -> String {
        let deadline = Date(timeIntervalSinceNow: 60)
        return try lock.withLock {
            while true {
                if let line = lines.first(where: matches) { return line }
                guard lock.wait(until: deadline) else { throw Failure("the line was not logged; the log is \(lines)") }
            }
        }
    }

    /// Waits until the log matches.
    func wait(_ matches: ([String]) -> Bool) throws {
        let deadline = Date(timeIntervalSinceNow: 60)
        try lock.withLock {
            while !matches(lines) {
                guard lock.wait(until: deadline) else { throw Failure("the line was not logged; the log is \(lines)") }
            }
        }
    }

    fileprivate func value(_ path: UnsafePointer<CChar>?) -> ConfigurationValue? {
        guard let path = path.map({ String(cString: $0) }) else { return nil }
        // An element of a list: its key, a dot and its index.
        if let dot = path.lastIndex(of: "."), let index = Int(path[path.index(after: dot)...]),
            case .list(let texts)? = configuration[String(path[..<dot])], texts.indices.contains(index)
        {
            return .string(texts[index])
        }
        return configuration[path]
    }

    /// The configuration as JSON. The host writes durations and sizes as they are configured.
    fileprivate var json: String {
        let entries = configuration.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value.json)" }
        return "{\(entries.joined(separator: ","))}"
    }

    fileprivate var keys: [String] { configuration.keys.sorted() }

    fileprivate func keep(_ text: String) -> (UnsafePointer<CChar>, Int) {
        let copy = strdup(text)!
        lock.withLock { texts.append(copy) }
        return (UnsafePointer(copy), text.utf8.count)
    }

    /// Frees the configuration's strings after create has returned, so that a later access reads freed memory.
    func dropConfiguration() {
        lock.withLock {
            texts.forEach { free($0) }
            texts = []
        }
    }
}

enum ConfigurationValue: Sendable {
    case string(String)
    case integer(Int64)
    case boolean(Bool)
    case duration(nanoseconds: Int64)
    case size(UInt64)
    case list([String])

    fileprivate var json: String {
        switch self {
        case .string(let text): "\"\(text)\""
        case .integer(let number): "\(number)"
        case .boolean(let flag): "\(flag)"
        case .duration(let nanoseconds): "\"\(nanoseconds)ns\""
        case .size(let bytes): "\(bytes)"
        case .list(let texts): "[\(texts.map { "\"\($0)\"" }.joined(separator: ","))]"
        }
    }
}

/// Finds objects by number. C callbacks have only a number.
final class Registry<Object: AnyObject & Sendable>: @unchecked Sendable {
    // Sendable: the dictionary is protected by the lock.
    private let lock = NSLock()
    private var objects: [UInt: Object] = [:]

    func insert(_ object: Object, for key: UInt) {
        lock.withLock { objects[key] = object }
    }

    func remove(_ key: UInt) {
        lock.withLock { objects[key] = nil }
    }

    subscript(key: UInt) -> Object? { lock.withLock { objects[key] } }
}

private let hosts = Registry<TestHost>()

private func host(_ table: UnsafePointer<chanserv_host>?) -> TestHost {
    hosts[UInt(bitPattern: table)]!
}

private func refuse(_ error: UnsafeMutablePointer<chanserv_error>?, _ message: String) -> chanserv_status {
    guard let error else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
    strncpy(error.pointee.message, message, error.pointee.capacity - 1)
    return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
}

/// Returns a value to the plugin if it exists and has the right type.
private func give<Value>(
    _ value: ConfigurationValue?, to place: UnsafeMutablePointer<Value>?,
    _ error: UnsafeMutablePointer<chanserv_error>?, as convert: (ConfigurationValue) -> Value?
) -> chanserv_status {
    guard let value else { return chanserv_status(CHANSERV_ERROR_NOT_FOUND) }
    guard let converted = convert(value) else { return refuse(error, "a value of another type") }
    place?.pointee = converted
    return chanserv_status(CHANSERV_READY)
}

private func giveText(
    _ table: UnsafePointer<chanserv_host>?, _ path: UnsafePointer<CChar>?,
    _ place: UnsafeMutablePointer<UnsafePointer<CChar>?>?, _ size: UnsafeMutablePointer<Int>?,
    _ error: UnsafeMutablePointer<chanserv_error>?
) -> chanserv_status {
    let host = host(table)
    return give(host.value(path), to: place, error) { value in
        guard case .string(let text) = value else { return nil }
        let (copy, count) = host.keep(text)
        size?.pointee = count
        return copy
    }
}

private func makeTable() -> chanserv_host {
    chanserv_host(
        magic: 0x4853_4843, abi_major: UInt16(CHANSERV_ABI_MAJOR), abi_minor: UInt16(CHANSERV_ABI_MINOR),
        struct_size: UInt32(MemoryLayout<chanserv_host>.size), reserved: 0,
        wake: { _, handle in WakeSignal.wake(handle) },
        log: { table, _, message, size in
            let line = String(decoding: UnsafeRawBufferPointer(start: message, count: size), as: UTF8.self)
            host(table).append(line)
        },
        config_json: { table, _, value, size in
            let (text, count) = host(table).keep(host(table).json)
            value?.pointee = text
            size?.pointee = count
            return chanserv_status(CHANSERV_READY)
        },
        config_string: { table, _, path, value, size, error in giveText(table, path, value, size, error) },
        config_integer: { table, _, path, value, error in
            give(host(table).value(path), to: value, error) {
                guard case .integer(let number) = $0 else { return nil }
                return number
            }
        },
        config_number: { table, _, path, value, error in
            give(host(table).value(path), to: value, error) {
                guard case .integer(let number) = $0 else { return nil }
                return Double(number)
            }
        },
        config_boolean: { table, _, path, value, error in
            give(host(table).value(path), to: value, error) {
                guard case .boolean(let flag) = $0 else { return nil }
                return flag ? 1 : 0
            }
        },
        config_duration: { table, _, path, value, error in
            give(host(table).value(path), to: value, error) {
                guard case .duration(let nanoseconds) = $0 else { return nil }
                return nanoseconds
            }
        },
        config_size: { table, _, path, value, error in
            give(host(table).value(path), to: value, error) {
                guard case .size(let bytes) = $0 else { return nil }
                return bytes
            }
        },
        config_count: { table, _, path, count, error in
            give(host(table).value(path), to: count, error) {
                guard case .list(let texts) = $0 else { return nil }
                return texts.count
            }
        },
        config_only: { table, _, known, count, error in
            let known = Set((0..<count).map { String(cString: known![$0]!) })
            guard let unknown = host(table).keys.first(where: { !known.contains($0) }) else {
                return chanserv_status(CHANSERV_READY)
            }
            return refuse(error, "unknown key \(unknown)")
        },
        config_path: { table, _, path, value, size, error in giveText(table, path, value, size, error) },
        context: nil,
        config_keys: { _, _, _, _, _, _ in chanserv_status(CHANSERV_ERROR_NOT_FOUND) }
    )
}

/// Receives wakes.
final class WakeSignal: @unchecked Sendable {
    // Sendable: the flag is protected by the condition.
    private let condition = NSCondition()
    private var isWoken = false
    private var isHeld = false
    let handle: UInt64

    private static let signals = Registry<WakeSignal>()
    private static let numbers = Counter()

    init() {
        handle = UInt64(Self.numbers.next())
        Self.signals.insert(self, for: UInt(handle))
    }

    /// Signals a wake. Handles are never reused. A handle that was removed has no effect.
    static func wake(_ handle: UInt64) {
        guard let wakeSignal = signals[UInt(handle)] else { return }
        wakeSignal.condition.withLock {
            wakeSignal.isWoken = true
            wakeSignal.condition.broadcast()
            while wakeSignal.isHeld { wakeSignal.condition.wait() }
        }
    }

    /// Runs `body` while the thread that wakes because of `cause` is held in the host's function `wake`.
    func holdWaker(after cause: () throws -> Void, during body: () throws -> Void) throws {
        condition.withLock { isHeld = true }
        defer {
            condition.withLock {
                isHeld = false
                condition.broadcast()
            }
        }
        try cause()
        try wait()
        try body()
    }

    func remove() {
        Self.signals.remove(UInt(handle))
    }

    /// Waits for a wake since the last call.
    func wait() throws {
        let deadline = Date(timeIntervalSinceNow: 60)
        try condition.withLock {
            while !isWoken {
                guard condition.wait(until: deadline) else { throw Failure("no wake came") }
            }
            isWoken = false
        }
    }

    var hasWake: Bool { condition.withLock { isWoken } }
}

final class Counter: @unchecked Sendable {
    // Sendable: the number is protected by the lock.
    private let lock = NSLock()
    private var number = 0

    func next() -> Int {
        lock.withLock {
            number += 1
            return number
        }
    }
}

struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}
