import HostConfiguration
import Testing

/// `include` and `drop_in`, with files in memory.
@Suite struct DropInConfigurationTests {
    private func files(_ contents: [String: String], invalid: Set<String> = []) -> ConfigurationFiles {
        ConfigurationFiles(
            pluginProblem: { invalid.contains($0) ? "does not exist" : nil },
            read: { (path) throws(FileProblem) in
                guard let text = contents[path] else { throw FileProblem("cannot be read: No such file or directory") }
                return Array(text.utf8)
            },
            matches: { folder, pattern in
                let pattern = folder + pattern
                guard let star = pattern.firstIndex(of: "*") else { return [pattern] }
                return contents.keys.filter { $0.hasPrefix(pattern[..<star]) && $0.hasSuffix(".yaml") }.sorted()
            },
            list: { folder throws(FileProblem) in
                let names = contents.keys.filter { $0.hasPrefix(folder + "/") }.map {
                    String($0.dropFirst(folder.count + 1))
                }
                guard !names.isEmpty else { throw FileProblem("cannot be read: No such file or directory") }
                return names
            })
    }

    private func parse(_ text: String, _ contents: [String: String]) throws(ConfigurationErrors) -> HostConfiguration {
        try HostConfiguration.parse(Array(text.utf8), file: "/etc/c.yaml", folder: "/etc", files: files(contents))
    }

    private func errors(_ text: String, _ contents: [String: String]) -> [String] {
        do {
            _ = try parse(text, contents)
            return []
        } catch {
            return error.errors.map(\.description)
        }
    }

    private func invalid(_ configuration: HostConfiguration) -> [String: [String]] {
        var result: [String: [String]] = [:]
        for dropIn in configuration.dropIns {
            if case .invalid(let errors) = dropIn.content { result[dropIn.name] = errors.map(\.description) }
        }
        return result
    }

    @Test func `included files add plugins and routes, with paths relative to themselves`() throws {
        let configuration = try parse(
            "include: [conf.d/*.yaml]\nplugins: {a: {path: a.so}}\nroutes: [{vaddr: a, plugin: a}]\n",
            [
                "/etc/conf.d/1.yaml": "plugins: {b: {path: b.so}}\n",
                "/etc/conf.d/2.yaml": "routes: [{vaddr: b, plugin: b}, {vaddr: c, plugin: a}]\n",
                "/etc/conf.d/3.yaml": "# nothing\n",
            ])
        #expect(configuration.plugins.map(\.path) == ["/etc/a.so", "/etc/conf.d/b.so"])
        #expect(configuration.routes.map(\.vAddr) == ["a", "b", "c"])
    }

    @Test func `errors of included files name their file`() {
        #expect(
            errors(
                "include: conf.d/*.yaml\nplugins: {a: {path: a.so}}\nroutes: [{vaddr: a, plugin: a}]\n",
                [
                    "/etc/conf.d/1.yaml": "node: {}\nplugins: {a: {path: b.so}}\n",
                    "/etc/conf.d/2.yaml": "routes: [{vaddr: a, plugin: a}]\n",
                ]) == [
                    "/etc/conf.d/1.yaml:1:1: unknown key 'node': it belongs in the main file",
                    "/etc/conf.d/1.yaml:2:11: duplicate plugin 'a' (first: /etc/c.yaml:2:11)",
                    "/etc/conf.d/2.yaml:1:18: duplicate vaddr 'a' (first: /etc/c.yaml:3:18)",
                ])
        #expect(
            errors("include: [one.yaml, two*.yaml]\nplugins: {}\nroutes: []\n", [:]) == [
                "/etc/c.yaml:1:11: the included file '/etc/one.yaml' cannot be read: No such file or directory"
            ])
    }

    @Test func `a library alone is a plugin and a route with its name`() throws {
        let configuration = try parse(
            "drop_in: {folder: d}\n", ["/etc/d/quotes.so": "", "/etc/d/x.so~": "", "/etc/d/.y.so": ""])
        #expect(configuration.plugins.map(\.name) == ["quotes"])
        #expect(configuration.plugins.map(\.path) == ["/etc/d/quotes.so"])
        #expect(configuration.routes.map(\.vAddr) == ["quotes"])
        #expect(configuration.dropIns.map(\.file) == ["/etc/d/quotes.so"])
        #expect(configuration.warnings == [])
    }

    @Test func `the YAML file of a drop-in refines the plugin and its routes`() throws {
        let configuration = try parse(
            "defaults: {drain: 7s}\ndrop_in: {folder: d}\n",
            [
                "/etc/d/q.so": "",
                "/etc/d/q.yaml":
                    "isolation: process\nconfig: {a: 1, b: 2}\nroutes: [{drain: 3s}, {vaddr: other, config: {b: 3}}]\n",
                "/etc/d/off.so": "", "/etc/d/off.yaml": "enabled: false\n", "/etc/d/plain.so": "",
                "/etc/d/plain.yaml": "# nothing\n",
            ])
        #expect(configuration.dropIns.map(\.name) == ["off", "plain", "q"])
        #expect(configuration.dropIns[0].content == .disabled)
        #expect(configuration.plugin(named: "q")?.isolation.isolation == .process)
        #expect(configuration.routes.map(\.vAddr) == ["plain", "q", "other"])
        #expect(configuration.routes.map(\.options.drain) == [.seconds(7), .seconds(3), .seconds(7)])
        #expect(configuration.routes.map(\.configuration.json) == ["{}", #"{"a":1,"b":2}"#, #"{"a":1,"b":3}"#])
    }

    @Test func `a wrong drop-in is set aside with its reasons, and its names are free for the others`() throws {
        let configuration = try parse(
            "drop_in: {folder: d}\nplugins: {main: {path: m.so}}\nroutes: [{vaddr: m, plugin: main}]\n",
            [
                "/etc/d/a.so": "", "/etc/d/a.yaml": "routes: [{vaddr: x}, {vaddr: m}]\n", "/etc/d/b.so": "",
                "/etc/d/b.yaml": "routes: [{vaddr: x}]\n", "/etc/d/c.yaml": "{}", "/etc/d/main.so": "",
                "/etc/d/e.so": "", "/etc/d/e.yaml": "isolaton: process\npath: e.so\nroutes: [{plugin: main}]\n",
            ])
        #expect(
            invalid(configuration) == [
                "a": ["/etc/d/a.yaml:1:30: duplicate vaddr 'm' (first: /etc/c.yaml:3:18)"],
                "c": ["/etc/d/c.yaml: the library '/etc/d/c.so' is missing: copy it there, or set 'enabled: false'"],
                "e": [
                    "/etc/d/e.yaml:1:1: unknown key 'isolaton'; did you mean 'isolation'?",
                    "/etc/d/e.yaml:2:1: unknown key 'path': it belongs in a configuration file: here the library is the file beside this one",
                    "/etc/d/e.yaml:3:11: a route of a drop-in leads to its own plugin: remove the key 'plugin'",
                ],
                "main": ["/etc/d/main.so: duplicate plugin 'main' (first: /etc/c.yaml:2:11)"],
            ])
        #expect(configuration.routes.map(\.vAddr) == ["m", "x"])
        #expect(configuration.plugins.map(\.name) == ["main", "b"])
    }

    @Test func `a drop-in takes no address that another one serves`() throws {
        let contents = [
            "/etc/d/0.so": "", "/etc/d/0.yaml": "routes: [{vaddr: x}]\n", "/etc/d/a.so": "",
            "/etc/d/a.yaml": "routes: [{vaddr: x}]\n",
        ]
        let owned = try HostConfiguration.parse(
            Array("drop_in: {folder: d}\n".utf8), file: "/etc/c.yaml", folder: "/etc", files: files(contents),
            dropInOwners: ["x": "a"])
        #expect(
            invalid(owned) == ["0": ["/etc/d/0.yaml:1:18: duplicate vaddr 'x' (first: /etc/d/a.yaml:1:18)"]])
        #expect(owned.dropIns.map(\.name) == ["0", "a"])

        // Also not while the one that serves it is wrong.
        var broken = contents
        broken["/etc/d/a.yaml"] = "isolaton: host\n"
        let wrong = try HostConfiguration.parse(
            Array("drop_in: {folder: d}\n".utf8), file: "/etc/c.yaml", folder: "/etc", files: files(broken),
            dropInOwners: ["x": "a"])
        #expect(invalid(wrong)["0"] == ["/etc/d/0.yaml:1:18: vaddr 'x' is served by the drop-in 'a'"])
    }

    @Test func `wrong options of the folder are errors of the main file`() {
        #expect(
            errors("drop_in: {watch: true}\n", [:]) == ["/etc/c.yaml:1:1: 'drop_in' needs the key 'folder'"])
        #expect(
            errors("drop_in: {folder: d, settle: 20s}\n", [:]) == [
                "/etc/c.yaml:1:30: settle (20s) is longer than max_settle (10s)"
            ])
        #expect(
            errors("drop_in: {folder: d}\n", [:]) == [
                "/etc/d: the folder of drop-ins cannot be read: No such file or directory"
            ])
    }

    @Test(arguments: [
        "x", "x.so.bak", ".x.so", "x.so~", "#x.so#", "x.so.dpkg-new", "a.dpkg-old.so", "-x.so", "x y.so", ".so",
    ])
    func `files that editors and package managers leave behind are ignored`(name: String) {
        #expect(!DropInNames.isConsidered(name))
    }
}
