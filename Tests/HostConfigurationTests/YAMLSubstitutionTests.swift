import Foundation
import HostConfiguration
import TestSupport
import Testing

/// Variables and files in the values of a configuration.
@Suite struct YAMLSubstitutionTests {
    private func read(
        _ text: String, folder: String = "/none", _ variables: [String: String] = [:]
    ) -> (values: [String: YAMLScalar], problems: [String]) {
        let (root, problems) = YAMLReader.read(
            Array(text.utf8), file: "f.yaml", substitution: YAMLSubstitution(folder: folder) { variables[$0] })
        var values: [String: YAMLScalar] = [:]
        if case .mapping(let entries) = root?.content {
            for entry in entries {
                if case .scalar(let scalar) = entry.value.content { values[entry.key] = scalar }
            }
        }
        return (values, problems.map(\.description))
    }

    @Test(arguments: [
        ("${A}", "one"), ("x${A}y${B}", "xoney2"), ("${NONE:-three}", "three"), ("${EMPTY:-four}", "four"),
        ("${EMPTY}", ""), ("${NONE:-}", ""), ("${NONE:-a:-b}", "a:-b"), ("$${A}", "${A}"), ("$A $ 5$", "$A $ 5$"),
        ("$$${A}", "$${A}"), ("${A}$", "one$"),
    ])
    func `variables in a quoted value are replaced`(text: String, value: String) {
        let (values, problems) = read("key: '\(text)'", ["A": "one", "B": "2", "EMPTY": ""])
        #expect(problems == [])
        #expect(values["key"] == YAMLScalar(string: value))
    }

    @Test(arguments: [("5", YAMLScalar.Value.integer("5")), ("true", .boolean(true)), ("x", .string), ("", .null)])
    func `the type of an unquoted value follows from the replaced text`(value: String, type: YAMLScalar.Value) {
        #expect(read("key: ${A}", ["A": value]).values["key"]?.value == type)
        #expect(read("key: \"${A}\"", ["A": value]).values["key"]?.value == .string)
    }

    @Test func `a key is not replaced`() {
        #expect(read("${A}: 1", ["A": "one"]).values["${A}"] == YAMLScalar(plain: "1"))
    }

    @Test(arguments: [
        (
            "a: 1\nkey: ${NONE}",
            "f.yaml:2:6: the environment variable NONE is not set; set it or write ${NONE:-default}"
        ),
        ("key: x${A", "f.yaml:1:6: '${' has no '}'; write '$${' for the characters '${'"),
        (
            "key: ${A-b}",
            "f.yaml:1:6: '${A-b}' is not a variable such as ${NAME} or ${NAME:-default}; "
                + "write '$${' for the characters '${'"
        ),
        (
            "key: ${1A}",
            "f.yaml:1:6: '${1A}' is not a variable such as ${NAME} or ${NAME:-default}; "
                + "write '$${' for the characters '${'"
        ),
    ])
    func `a wrong reference is an error with its place and the way out`(text: String, problem: String) {
        #expect(read(text, ["A": "one"]).problems == [problem])
    }

    @Test func `a file is read without its last line feed`() throws {
        let folder = try TestFolder()
        for (name, text) in [("one", "secret\n"), ("two", "a\nb\n\n"), ("three", "no end"), ("four", "")] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: folder.file(name)))
        }
        let (values, problems) = read(
            "one: !file one\ntwo: !file ${NAME}\nthree: !file '\(folder.file("three"))'\nfour: !file four",
            folder: folder.path, ["NAME": "two"])
        #expect(problems == [])
        #expect(values.mapValues(\.text) == ["one": "secret", "two": "a\nb\n", "three": "no end", "four": ""])
    }

    @Test func `a file that cannot be read is an error with its place`() throws {
        let folder = try TestFolder()
        try Data([0xFF, 0xFE, 0x41]).write(to: URL(fileURLWithPath: folder.file("bytes")))
        try Data(count: YAMLSubstitution.fileSize + 1).write(to: URL(fileURLWithPath: folder.file("large")))
        let (_, problems) = read("a: !file none\nb: !file bytes\nc: !file large\nd: !file", folder: folder.path)
        #expect(
            problems == [
                "f.yaml:1:4: the file '\(folder.file("none"))' cannot be read: No such file or directory",
                "f.yaml:2:4: the file '\(folder.file("bytes"))' is not UTF-8",
                "f.yaml:3:4: the file '\(folder.file("large"))' is larger than 64KiB",
                "f.yaml:4:4: !file needs the path of a file",
            ])
    }

    @Test func `messages do not show the replaced value`() throws {
        setenv("CHANSERV_TEST_SECRET", "hunter2", 1)
        defer { unsetenv("CHANSERV_TEST_SECRET") }
        let text = """
            node: {drain: "${CHANSERV_TEST_SECRET}", control: ["${CHANSERV_TEST_SECRET}"]}
            plugins: {a: {path: /a.so, sha256: "${CHANSERV_TEST_SECRET}", isolation: "${CHANSERV_TEST_SECRET}"}}
            routes: [{vaddr: a, plugin: a, limits: {requests: "${CHANSERV_TEST_SECRET}"}, batch_size: "${CHANSERV_TEST_SECRET}"}]
            """
        let errors = #expect(throws: ConfigurationErrors.self) {
            try HostConfiguration.parse(text, file: "f.yaml", folder: "/")
        }
        #expect(errors?.errors.count == 6)
        #expect(errors?.description.contains("hunter2") == false)
        #expect(errors?.description.contains("found the value of '${CHANSERV_TEST_SECRET}'") == true)
    }
}
