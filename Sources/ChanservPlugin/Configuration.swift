import CChanservPlugin

/// What stands under `config:` for this instance. It can only be read while the plugin is made.
///
/// A path names a value: keys separated by dots, elements of lists by their index, e.g. `limits.0.size`. Each function
/// returns `nil` where the key is absent, and throws a ``PluginError`` that names the place in the file where the value
/// is not of that type.
public struct Configuration: ~Copyable {
    private let host: UnsafePointer<chanserv_host>
    private let config: OpaquePointer?

    init(host: UnsafePointer<chanserv_host>, config: OpaquePointer?) {
        self.host = host
        self.config = config
    }

    /// Throws where there is a key other than `keys` (top level only): a misspelt option becomes an error at start.
    public func only(_ keys: [String]) throws(PluginError) {
        let copies = keys.map { key in
            let text = UnsafeMutableBufferPointer<CChar>.allocate(capacity: key.utf8.count + 1)
            _ = text.initialize(from: key.utf8.lazy.map { CChar(bitPattern: $0) } + [0])
            return text
        }
        defer { copies.forEach { $0.deallocate() } }
        var known: [UnsafePointer<CChar>?] = copies.map { UnsafePointer($0.baseAddress) }
        known.append(nil)  // so that the array has an address, even of no keys
        _ = try ask { error in host.pointee.config_only(host, config, known, keys.count, &error) }
    }

    /// Text.
    public func string(_ path: String) throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { error in host.pointee.config_string(host, config, path, &value, &size, &error) }
        return found ? text(value, size) : nil
    }

    /// A path of the file system, absolute or made so against the configuration file's folder.
    public func path(_ path: String) throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { error in host.pointee.config_path(host, config, path, &value, &size, &error) }
        return found ? text(value, size) : nil
    }

    /// A whole number.
    public func integer(_ path: String) throws(PluginError) -> Int? {
        var value: Int64 = 0
        let found = try ask { error in host.pointee.config_integer(host, config, path, &value, &error) }
        return found ? Int(value) : nil
    }

    /// A number.
    public func number(_ path: String) throws(PluginError) -> Double? {
        var value = 0.0
        let found = try ask { error in host.pointee.config_number(host, config, path, &value, &error) }
        return found ? value : nil
    }

    /// `true` or `false`.
    public func boolean(_ path: String) throws(PluginError) -> Bool? {
        var value: Int32 = 0
        let found = try ask { error in host.pointee.config_boolean(host, config, path, &value, &error) }
        return found ? value != 0 : nil
    }

    /// A duration like `250ms`, `30s`, `5m`, `1h`.
    public func duration(_ path: String) throws(PluginError) -> Duration? {
        var value: Int64 = 0
        let found = try ask { error in host.pointee.config_duration(host, config, path, &value, &error) }
        return found ? .nanoseconds(value) : nil
    }

    /// A size like `512`, `64KiB`, `100MiB`, `1GiB`, in bytes.
    public func size(_ path: String) throws(PluginError) -> UInt64? {
        var value: UInt64 = 0
        let found = try ask { error in host.pointee.config_size(host, config, path, &value, &error) }
        return found ? value : nil
    }

    /// How many elements a list has.
    public func count(_ path: String) throws(PluginError) -> Int? {
        var value = 0
        let found = try ask { error in host.pointee.config_count(host, config, path, &value, &error) }
        return found ? value : nil
    }

    /// Everything, as JSON text.
    public func json() throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { _ in host.pointee.config_json(host, config, &value, &size) }
        return found ? text(value, size) : nil
    }

    /// Calls a getter: whether the key is there.
    private func ask(_ getter: (inout chanserv_error) -> chanserv_status) throws(PluginError) -> Bool {
        let buffer = UnsafeMutableBufferPointer<CChar>.allocate(capacity: 1024)
        buffer.initialize(repeating: 0)
        defer { buffer.deallocate() }
        var error = chanserv_error(message: buffer.baseAddress, capacity: buffer.count)
        let status = getter(&error)
        if status >= 0 { return true }
        if status == PluginError.Code.notFound.status { return false }
        let end = buffer.firstIndex(of: 0) ?? buffer.endIndex
        let message = String(decoding: buffer[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        throw PluginError(PluginError.Code(status: status), message.isEmpty ? "bad configuration" : message)
    }

    private func text(_ value: UnsafePointer<CChar>?, _ size: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: value, count: size), as: UTF8.self)
    }
}
