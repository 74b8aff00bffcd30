extension ConfigurationSchema {
    /// The section `drop_in`.
    static let dropIn = OptionSection<DropInOptions>(
        "the drop-ins",
        [
            ConfigurationOption(
                "folder", \.folder, .path, required: true, "folder of the drop-ins",
                "Other users must not be able to write to it."),
            ConfigurationOption(
                "watch", \.watch, .boolean, "apply changes of the folder at once; `false`: at the next reload"),
            ConfigurationOption(
                "settle", \.settle, .positiveDuration("time to settle"),
                "time without a change before the folder is read",
                "So a pair of files, or a burst of copies, is one reload."),
            ConfigurationOption(
                "max_settle", \.maxSettle, .positiveDuration("time to settle"),
                "maximum time from the first change until the folder is read"),
            ConfigurationOption(
                "rescan", \.rescan, .timeout, "time between checks for changes that the system does not report",
                "Network file systems report no changes of other hosts."),
            ConfigurationOption(
                "on_remove", \.onRemove, .oneOf(("a", "policy")), "`keep`: serve removed drop-ins until a restart"),
            ConfigurationOption(
                "strict", \.strict, .boolean, "refuse to start if a drop-in is wrong",
                "Otherwise the host starts without it."),
            ConfigurationOption(
                "require_yaml", \.requireYAML, .boolean, "serve a library only if its YAML file exists"),
        ],
        check: { reader, entries, options in
            guard options.settle > options.maxSettle, let entry = entries["settle"] ?? entries["max_settle"] else {
                return
            }
            reader.report(
                "settle (\(ValueGrammar.text(options.settle))) is longer than max_settle "
                    + "(\(ValueGrammar.text(options.maxSettle)))", at: entry.value.location)
        })

    /// The content of the YAML file of a drop-in.
    struct DropInBody {
        var plugin: HostConfiguration.Plugin
        var isEnabled = true
        /// The list under `routes`; `nil` for one route with the name of the drop-in.
        var routes: YAMLNode?
    }

    /// The YAML file of a drop-in: the keys of a plugin except `path`, and two of its own.
    static let dropInBody = OptionSection<DropInBody>(
        "a drop-in", plugin.options.filter { $0.key != "path" }.map { $0.at(\.plugin) } + dropInKeys,
        elsewhere: ["path": "in a configuration file: here the library is the file beside this one"],
        check: { reader, entries, body in plugin.check(&reader, entries, &body.plugin) })

    /// The keys of the YAML file of a drop-in that a plugin does not have.
    static let dropInKeys: [ConfigurationOption<DropInBody>] = [
        ConfigurationOption("enabled", \.isEnabled, .boolean, "`false`: do not serve this drop-in"),
        ConfigurationOption(
            "routes", type: "list", text: { _ in "one route with the name of the drop-in" },
            "the routes, without the key `plugin`", "`vaddr` is the name of the drop-in by default.",
            read: { _, entry, body in body.routes = entry.value }),
    ]
}
