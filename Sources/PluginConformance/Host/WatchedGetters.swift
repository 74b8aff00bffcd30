internal import CChanservPlugin

extension chanserv_host {
    /// Sets the `config_…` functions. Each checks its arguments and then calls the host's getter.
    mutating func fillWatchedGetters() {
        config_json = { host, config, value, size in
            guard let test = ConformanceHost.of(host, "config_json") else { return refused }
            var length = 0
            let status = test.ask(.json, nil, needsPath: false, nil, value: value) {
                $0.pointee.config_json($0, config, value, &length)
            }
            if status == CHANSERV_READY {
                test.replaceByLoan(value, size: length)
                size?.pointee = length
            }
            return status
        }
        config_string = { host, config, path, value, size, error in
            guard let test = ConformanceHost.of(host, "config_string") else { return refused }
            var length = 0
            let status = test.ask(.string, path, error, value: value) {
                $0.pointee.config_string($0, config, path, value, &length, error)
            }
            if status == CHANSERV_READY {
                test.replaceByLoan(value, size: length)
                size?.pointee = length
            }
            return status
        }
        config_path = { host, config, path, value, size, error in
            guard let test = ConformanceHost.of(host, "config_path") else { return refused }
            var length = 0
            let status = test.ask(.path, path, error, value: value) {
                $0.pointee.config_path($0, config, path, value, &length, error)
            }
            if status == CHANSERV_READY {
                test.replaceByLoan(value, size: length)
                size?.pointee = length
            }
            return status
        }
        config_integer = { host, config, path, value, error in
            guard let test = ConformanceHost.of(host, "config_integer") else { return refused }
            return test.ask(.integer, path, error, value: value) {
                $0.pointee.config_integer($0, config, path, value, error)
            }
        }
        config_number = { host, config, path, value, error in
            guard let test = ConformanceHost.of(host, "config_number") else { return refused }
            return test.ask(.number, path, error, value: value) {
                $0.pointee.config_number($0, config, path, value, error)
            }
        }
        config_boolean = { host, config, path, value, error in
            guard let test = ConformanceHost.of(host, "config_boolean") else { return refused }
            return test.ask(.boolean, path, error, value: value) {
                $0.pointee.config_boolean($0, config, path, value, error)
            }
        }
        config_duration = { host, config, path, value, error in
            guard let test = ConformanceHost.of(host, "config_duration") else { return refused }
            return test.ask(.duration, path, error, value: value) {
                $0.pointee.config_duration($0, config, path, value, error)
            }
        }
        config_size = { host, config, path, value, error in
            guard let test = ConformanceHost.of(host, "config_size") else { return refused }
            return test.ask(.size, path, error, value: value) {
                $0.pointee.config_size($0, config, path, value, error)
            }
        }
        config_count = { host, config, path, value, error in
            guard let test = ConformanceHost.of(host, "config_count") else { return refused }
            return test.ask(.count, path, error, value: value) {
                $0.pointee.config_count($0, config, path, value, error)
            }
        }
        config_keys = { host, config, path, keys, count, error in
            guard let test = ConformanceHost.of(host, "config_keys") else { return refused }
            return test.ask(.keys, path, error, value: keys) {
                $0.pointee.config_keys($0, config, path, keys, count, error)
            }
        }
        config_only = { host, config, known, count, error in
            guard let test = ConformanceHost.of(host, "config_only") else { return refused }
            if known == nil, count > 0 {
                test.findings.record(.hostTable, "host->config_only was called with NULL as \(count) keys")
                return refused
            }
            return test.ask(.only, nil, needsPath: false, error, value: nil) {
                $0.pointee.config_only($0, config, known, count, error)
            }
        }
    }
}

private let refused = chanserv_status(CHANSERV_ERROR_BAD_REQUEST)
