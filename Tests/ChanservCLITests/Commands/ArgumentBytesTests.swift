import Foundation
import TestSupport
import Testing

/// Arguments that are not UTF-8. The shell makes them, because Swift's strings cannot hold them.
@Suite struct ArgumentBytesTests {
    /// Runs a script with `$name` (`caf` and the byte E9), `$chanserv` and `$address`, in a folder of its own.
    private func run(_ script: String, host: TestHost) async throws -> ChildProcess.Exit {
        let start = #"name=$(printf 'caf\351'); mkdir "$name"; cd "$name"; "#
        // FileManager cannot remove such names.
        let end = #"; code=$?; cd ..; rm -rf "$name"; exit $code"#
        return try await ChildProcess(
            "/usr/bin/env",
            [
                "chanserv=\(ChanservCommand.buildFolder)/chanserv", "address=\(host.address)", "sh", "-c",
                start + "(" + script + ")" + end,
            ], folder: host.folder
        ).exit()
    }

    private let name = Data("caf".utf8) + [0xE9]

    @Test func `bodies and the paths of post keep their bytes`() async throws {
        try await TestHost.serving { host in
            let sent = try await run(
                #""$chanserv" post echo --join "$address" --output raw --body "$name""#, host: host)
            #expect(sent.output == name)
            #expect(sent.errors == "")
            let read = try await run(
                #"printf content > "$name"; "$chanserv" post echo --join "$address" --output raw --body-file "$name""#,
                host: host)
            #expect(read.text == "content")
            let saved = try await run(
                #""$chanserv" post echo --join "$address" --body x --save "to/$name" && cat "to/$name/source-0""#,
                host: host)
            #expect(saved.code == 0)
            #expect(saved.text.hasSuffix("x"))
            let missing = try await run(
                #""$chanserv" post echo --join "$address" --body-file "no-$name""#, host: host)
            #expect(missing.errors == "chanserv: cannot open 'no-caf\\xE9': No such file or directory\n")
        }
    }

    @Test func `configurations, plugins and sockets are found at their paths`() async throws {
        try await TestHost.serving { host in
            let checked = try await run(
                #"""
                mkdir "$name" && cp -p ../libEcho.so "$name/lib$name.so" && cp -p ../libEcho.so "$name" && cd "$name" &&
                printf 'plugins: {echo: {path: libEcho.so}}\nroutes: [{vaddr: e, plugin: echo}]\n' > "$name.yaml" &&
                "$chanserv" check --config "$name.yaml" && cd .. &&
                "$chanserv" check --config "$name/$name.yaml" && "$chanserv" plugin pin "$name/lib$name.so" &&
                "$chanserv" plugin test "$name/lib$name.so" --only load generations --request "$name"
                """#, host: host)
            #expect(checked.code == 0, "\(checked.errors)\(checked.text)")
            let status = try await run(
                #"""
                printf 'node: {listen: "127.0.0.1:0", control: c.sock}\nroutes: []\nplugins: {}\n' > c.yaml
                "$chanserv" serve --config "../$name/c.yaml" 2> log & host=$!
                until grep -q ready log; do kill -0 $host || exit 3; done
                "$chanserv" status --socket "../$name/c.sock"; code=$?; kill $host; wait $host; exit $code
                """#, host: host)
            #expect(status.code == 0, "\(status.errors)")
        }
    }

    @Test func `arguments that are text on the wire must be UTF-8`() async throws {
        try await TestHost.serving { host in
            for arguments in [#""$name""#, #"e --meta "$name""#, #"e --bucket "$name""#, #"e --environment "$name""#] {
                let exit = try await run(#""$chanserv" post --join "$address" "# + arguments, host: host)
                #expect(exit.code == 64)
                #expect(exit.errors.contains(#": 'caf\xE9' is not UTF-8"#), "\(exit.errors)")
            }
        }
    }
}
