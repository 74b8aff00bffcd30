internal import CChanservPlugin

extension chanserv_host {
    /// Sets the `config_…` functions. Each of them translates a call into one of ``PluginConfiguration``.
    mutating func fillConfigurationGetters() {
        config_json = { host, config, value, size in
            get(host, config, nil) { lease in
                let copy = lease.copy(lease.values.json)
                value?.pointee = copy.start
                size?.pointee = copy.size
                return true
            }
        }
        config_string = { host, config, path, value, size, error in
            get(host, config, error) { lease in
                guard let text = try lease.values.string(at: string(path)) else { return false }
                let copy = lease.copy(text)
                value?.pointee = copy.start
                size?.pointee = copy.size
                return true
            }
        }
        config_path = { host, config, path, value, size, error in
            get(host, config, error) { lease in
                guard let text = try lease.values.path(at: string(path)) else { return false }
                let copy = lease.copy(text.systemBytes)
                value?.pointee = copy.start
                size?.pointee = copy.size
                return true
            }
        }
        config_integer = { host, config, path, value, error in
            get(host, config, error) { set(value, try $0.values.integer(at: string(path))) }
        }
        config_number = { host, config, path, value, error in
            get(host, config, error) { set(value, try $0.values.number(at: string(path))) }
        }
        config_boolean = { host, config, path, value, error in
            get(host, config, error) { set(value, try $0.values.boolean(at: string(path)).map { $0 ? 1 : 0 }) }
        }
        config_duration = { host, config, path, value, error in
            get(host, config, error) { set(value, try $0.values.duration(at: string(path)).map(nanoseconds)) }
        }
        config_size = { host, config, path, value, error in
            get(host, config, error) { set(value, try $0.values.size(at: string(path))) }
        }
        config_count = { host, config, path, value, error in
            get(host, config, error) { set(value, try $0.values.count(at: string(path))) }
        }
        config_keys = { host, config, path, keys, count, error in
            get(host, config, error) { lease in
                guard let found = try lease.values.keys(at: string(path)) else { return false }
                keys?.pointee = lease.copy(found)
                count?.pointee = found.count
                return true
            }
        }
        config_only = { host, config, known, count, error in
            get(host, config, error) { lease in
                try lease.values.only(known: (0..<max(0, count)).map { string(known?[$0]) })
                return true
            }
        }
    }
}

/// Runs one getter. `body` returns whether there was a value.
private func get(
    _ host: UnsafePointer<chanserv_host>?, _ config: OpaquePointer?, _ error: UnsafeMutablePointer<chanserv_error>?,
    _ body: (HostContext.Lease) throws -> Bool
) -> chanserv_status {
    guard let context = HostTable.context(of: host) else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
    return context.withConfiguration(config) { lease in
        guard let lease else {
            error?.pointee.write("the configuration is valid in create only")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
        do {
            return chanserv_status(try body(lease) ? CHANSERV_READY : CHANSERV_ERROR_NOT_FOUND)
        } catch let problem {
            error?.pointee.write("\(problem)")
            return chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
        }
    }
}

private func set<Value>(_ target: UnsafeMutablePointer<Value>?, _ value: Value?) -> Bool {
    guard let value else { return false }
    target?.pointee = value
    return true
}

/// Converts a zero-terminated string of the plugin. NULL is the empty string, which as a path is the root.
private func string(_ pointer: UnsafePointer<CChar>?) -> String {
    pointer.map { String(cString: $0) } ?? ""
}

/// Converts a duration to nanoseconds, clamped to the range of `int64_t`.
private func nanoseconds(_ duration: Duration) -> Int64 {
    let (seconds, attoseconds) = duration.components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    guard !overflow else { return seconds < 0 ? .min : .max }
    let (sum, carry) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
    return carry ? .max : sum
}

extension chanserv_error {
    /// Writes `text`. A text that does not fit is truncated at the end of a character.
    package func write(_ text: String) {
        guard let message, capacity > 0 else { return }
        var count = 0
        for scalar in text.unicodeScalars {
            let bytes = UTF8.encode(scalar)!
            guard count + bytes.count < capacity else { break }
            for byte in bytes {
                message[count] = CChar(bitPattern: byte)
                count += 1
            }
        }
        message[count] = 0
    }
}
