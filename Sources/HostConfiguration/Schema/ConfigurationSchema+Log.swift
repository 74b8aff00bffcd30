extension ConfigurationSchema {
    /// The section `log`.
    static let log = OptionSection<HostConfiguration.Log>(
        "the log",
        [
            ConfigurationOption(
                "access", \.access, .accessLog, "one line for each request: true, or the path of a file",
                "`true` writes to the host's log. A reload, also by SIGHUP, opens the file again, as log rotation needs "
                    + "it ([operations.md](operations.md#the-access-log)).")
        ],
        check: { _, entries, log in log.accessLocation = entries["access"]?.value.location })
}

extension ValueType<HostConfiguration.AccessLog> {
    fileprivate static let accessLog = ValueType(
        "boolean, or path",
        parse: { (node, folder) throws(ConfigurationError) in
            if case .scalar(let scalar) = node.content, case .boolean(let isOn) = scalar.value {
                return isOn ? .log : .off
            }
            return .file(try node.path(relativeTo: folder))
        },
        text: { access in
            switch access {
            case .off: "false"
            case .log: "true"
            case .file(let path): path
            }
        })
}
