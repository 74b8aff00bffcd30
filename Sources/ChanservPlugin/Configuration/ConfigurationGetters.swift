import CChanservPlugin

/// Swift wrappers of the getters in the host's table. They work until the plugin's `create` returns.
struct ConfigurationGetters {
    private let host: UnsafePointer<chanserv_host>
    private let config: OpaquePointer?

    init(host: UnsafePointer<chanserv_host>, config: OpaquePointer?) {
        self.host = host
        self.config = config
    }

    func only(_ keys: [String]) throws(PluginError) {
        let copies = keys.map { key in
            let text = UnsafeMutableBufferPointer<CChar>.allocate(capacity: key.utf8.count + 1)
            _ = text.initialize(from: key.utf8.lazy.map { CChar(bitPattern: $0) } + [0])
            return text
        }
        defer { copies.forEach { $0.deallocate() } }
        var known: [UnsafePointer<CChar>?] = copies.map { UnsafePointer($0.baseAddress) }
        known.append(nil)  // gives the array an address even without keys
        _ = try ask { error in host.pointee.config_only(host, config, known, keys.count, &error) }
    }

    func string(_ path: String) throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { error in host.pointee.config_string(host, config, path, &value, &size, &error) }
        return found ? text(value, size) : nil
    }

    func path(_ path: String) throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { error in host.pointee.config_path(host, config, path, &value, &size, &error) }
        guard found else { return nil }
        guard let text = String(validating: UnsafeRawBufferPointer(start: value, count: size), as: UTF8.self) else {
            throw PluginError(
                .badRequest, "the path of '\(path)' is not UTF-8, which this plugin cannot use: rename its folder")
        }
        return text
    }

    func integer(_ path: String) throws(PluginError) -> Int64? {
        var value: Int64 = 0
        let found = try ask { error in host.pointee.config_integer(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func number(_ path: String) throws(PluginError) -> Double? {
        var value = 0.0
        let found = try ask { error in host.pointee.config_number(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func boolean(_ path: String) throws(PluginError) -> Bool? {
        var value: Int32 = 0
        let found = try ask { error in host.pointee.config_boolean(host, config, path, &value, &error) }
        return found ? value != 0 : nil
    }

    func duration(_ path: String) throws(PluginError) -> Duration? {
        var value: Int64 = 0
        let found = try ask { error in host.pointee.config_duration(host, config, path, &value, &error) }
        return found ? .nanoseconds(value) : nil
    }

    func size(_ path: String) throws(PluginError) -> UInt64? {
        var value: UInt64 = 0
        let found = try ask { error in host.pointee.config_size(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func count(_ path: String) throws(PluginError) -> Int? {
        var value = 0
        let found = try ask { error in host.pointee.config_count(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func json() throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { _ in host.pointee.config_json(host, config, &value, &size) }
        return found ? text(value, size) : nil
    }

    /// Returns the place of a value in the file, e.g. `chanserv.yaml:12:5`; `nil` if the host does not state it.
    ///
    /// No getter returns a place, but the error of a getter for another type contains it. A value cannot be both a
    /// boolean and a list, so one of the two getters fails.
    func place(_ path: String) -> String? {
        place { () throws(PluginError) in _ = try boolean(path) }
            ?? place { () throws(PluginError) in _ = try count(path) }
    }

    private func place(_ question: () throws(PluginError) -> Void) -> String? {
        do {
            try question()
            return nil
        } catch {
            // The format is "file:line:column: message". File names may contain colons.
            let message = Array(error.message.utf8)
            var start = 0
            while let colon = message[start...].firstIndex(of: UInt8(ascii: ":")) {
                let numbers = message[(colon + 1)...].split(
                    separator: UInt8(ascii: ":"), maxSplits: 2, omittingEmptySubsequences: false)
                if numbers.count == 3, let line = numbers[0].asNumber, let column = numbers[1].asNumber {
                    return "\(String(decoding: message[..<colon], as: UTF8.self)):\(line):\(column)"
                }
                start = colon + 1
            }
            return nil
        }
    }

    /// Calls a getter and returns whether the key exists.
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

extension ArraySlice<UInt8> {
    /// The number with these digits.
    fileprivate var asNumber: Int? {
        allSatisfy { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
            ? Int(String(decoding: self, as: UTF8.self)) : nil
    }
}
