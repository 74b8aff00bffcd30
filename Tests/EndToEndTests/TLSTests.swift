import AstraNet
import AstraNetTLS
import Chanserv
import ChanservAstraNet
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

extension EndToEnd {
    /// Hosts whose listeners use TLS, with certificates of `chanserv certificates new`.
    ///
    /// For the full size set `CHANSERV_TEST_TLS_LINKS=1000` and `CHANSERV_TEST_TLS_RELOADS=100`.
    @Suite(.serialized, .timeLimit(.minutes(30))) struct TLS {
        static let links = count("CHANSERV_TEST_TLS_LINKS", 40)
        static let reloads = count("CHANSERV_TEST_TLS_RELOADS", 6)

        private static func count(_ name: String, _ usual: Int) -> Int {
            ProcessInfo.processInfo.environment[name].flatMap(Int.init) ?? usual
        }

        static let configuration = """
            node:
              listen:
                - address: 127.0.0.1:0
                  tls:
                    certificate: live/localhost.pem
                    key: live/localhost.key
                    client_ca: live/ca.pem
              control: control.sock
            access:
              identities:
                shop: {uri: "spiffe://mesh/client/shop"}
            plugins:
              echo: {path: libEcho.so}
            routes:
              - {vaddr: echo, plugin: echo, access: {allow: [shop]}}
            """

        /// Makes a CA with a host and two clients, and uses its files in the host.
        private static func prepare(_ folder: TestFolder) throws {
            for plugin in ["libEcho.so", "libWhoami.so"] { try ServedHost.copyBuilt(plugin, to: folder) }
            try FileManager.default.createDirectory(atPath: folder.file("live"), withIntermediateDirectories: false)
        }

        private static func makeCertificates(_ name: String, in folder: TestFolder) async throws {
            let made = try await ChanservCommand.run(
                "certificates", "new", folder.file(name), "--host", "localhost", "--client", "shop", "--client", "thief"
            )
            try #require(made.code == 0, "\(made.errors)")
        }

        /// Copies the files of a CA over those that the host uses. Each file is replaced as a whole.
        private static func install(_ name: String, in folder: TestFolder) throws {
            for file in ["ca.pem", "localhost.pem", "localhost.key"] {
                let (from, to) = (folder.file("\(name)/\(file)"), folder.file("live/\(file)"))
                try? FileManager.default.removeItem(atPath: to + ".new")
                try FileManager.default.copyItem(atPath: from, toPath: to + ".new")
                try #require(rename(to + ".new", to) == 0)
            }
        }

        private static func serving<T>(
            _ configuration: String = configuration, _ body: (ServedHost) async throws -> T
        ) async throws -> T {
            let folder = try TestFolder()
            for name in ["first", "second"] { try await makeCertificates(name, in: folder) }
            return try await ServedHost.serving(
                configuration,
                prepare: { hostFolder in
                    try prepare(hostFolder)
                    for name in ["first", "second"] {
                        try FileManager.default.copyItem(
                            atPath: folder.file(name), toPath: hostFolder.file(name))
                    }
                    try install("first", in: hostFolder)
                }, body)
        }

        /// A client with a certificate of one of the CAs.
        private struct SecureClient: Sendable {
            let node = Node()
            let client: Client

            init(of host: ServedHost, ca: String, _ name: String = "shop") async throws {
                let folder = host.folder
                let tls = try TLSClient(
                    ca: folder.file("\(ca)/ca.pem"), certificate: folder.file("\(ca)/\(name).pem"),
                    key: folder.file("\(ca)/\(name).key"), serverName: "localhost")
                client = Client(multiplexer: AstraNetMultiplexer(node))
                try await node.join(
                    .tcp(host: "127.0.0.1", port: host.port), security: tls, deadline: .now + TestClient.patience)
            }

            /// Posts `text` to the echo and returns the answer.
            func echo(_ text: String) async throws -> String { try await post("echo", text) }

            /// Posts `text` and returns all frames of the answer.
            func post(_ vAddr: String, _ text: String) async throws -> String {
                var answer = ""
                for try await source in try await client.lookupAndPost(vAddr, body: text) {
                    for frame in try await source.frames.all() { answer += frame.string }
                }
                return answer
            }

            func close() async { await node.shutdown(grace: .zero) }
        }

        @Test func `replacing certificate, key and CA under load drops no link, and new links use the new ones`()
            async throws
        {
            try await Self.serving { host in
                var clients: [SecureClient] = []
                for _ in 0..<Self.links { clients.append(try await SecureClient(of: host, ca: "first")) }
                let isDone = NIOLockedValueBox(false)
                let answers = try await withThrowingTaskGroup(of: Int.self) { group in
                    defer { isDone.withLockedValue { $0 = true } }
                    for (index, client) in clients.enumerated() {
                        group.addTask {
                            var count = 0
                            while !isDone.withLockedValue({ $0 }) {
                                #expect(try await client.echo("\(index) \(count)") == "\(index) \(count)")
                                count += 1
                                // A thousand clients at full speed would leave no processor for the reloads.
                                try await Task.sleep(for: .milliseconds(Self.links))
                            }
                            return count
                        }
                    }
                    for reload in 1...Self.reloads {
                        let (now, before) = reload.isMultiple(of: 2) ? ("first", "second") : ("second", "first")
                        try Self.install(now, in: host.folder)
                        let result = try await host.reload()
                        #expect(result.contains("changed TLS of listen 127.0.0.1:0"), "\(result)")
                        let fresh = try await SecureClient(of: host, ca: now)
                        #expect(try await fresh.echo("new") == "new")
                        await fresh.close()
                        let refused = await #expect(throws: AstraNetError.self) {
                            await (try SecureClient(of: host, ca: before)).close()
                        }
                        #expect(refused?.code == .insecure)
                    }
                    isDone.withLockedValue { $0 = true }
                    return try await group.reduce(0, +)
                }
                #expect(answers >= Self.links)
                for client in clients {
                    #expect(client.node.linkCount == 1)
                    await client.close()
                }
            }
        }

        @Test func `a key of another certificate refuses the reload with its place, and the old files stay in use`()
            async throws
        {
            try await Self.serving { host in
                let folder = host.folder
                try FileManager.default.removeItem(atPath: folder.file("live/localhost.key"))
                try FileManager.default.copyItem(
                    atPath: folder.file("second/localhost.key"), toPath: folder.file("live/localhost.key"))
                #expect(try await host.reload().contains("reload refused"))
                let log = host.process.errorsSoFar
                #expect(log.contains("chanserv.yaml:6:14: "), "\(log)")
                #expect(log.contains("live/localhost.key:1: "), "\(log)")
                let client = try await SecureClient(of: host, ca: "first")
                #expect(try await client.echo("still") == "still")
                await client.close()
            }
        }

        @Test func `a client without the right identity is refused by name, and the refusal is counted`() async throws {
            try await Self.serving { host in
                let thief = try await SecureClient(of: host, ca: "first", "thief")
                let refused = try await failure { try await thief.echo("x") }
                #expect("\(refused)".contains("not allowed: you may not call echo"), "\(refused)")
                await thief.close()
                let status = try await ChanservCommand.run("status", "--config", host.configurationFile)
                #expect(status.text.contains("1 not allowed"), "\(status.text)")
                #expect(status.text.contains("live/localhost.pem"), "\(status.text)")
            }
        }

        @Test(arguments: Isolation.allCases)
        func `a plugin learns the identity of the caller`(isolation: Isolation) async throws {
            struct Caller: Decodable {
                var identity: String
                var peer_address: String
                var vaddr: String
                var body_bytes: Int
            }
            let configuration =
                isolation.applied(to: Self.configuration)
                .replacingOccurrences(of: "routes:", with: "  whoami: {path: libWhoami.so}\nroutes:")
                + "\n  - {vaddr: whoami, plugin: whoami, access: {allow: [any]}}"
            try await Self.serving(configuration) { host in
                for name in ["shop", "thief"] {
                    let client = try await SecureClient(of: host, ca: "first", name)
                    let answer = try await client.post("whoami", "hello")
                    let caller = try JSONDecoder().decode(Caller.self, from: Data(answer.utf8))
                    #expect(caller.identity == "spiffe://mesh/client/\(name)")
                    #expect(caller.peer_address.hasPrefix("127.0.0.1:"))
                    #expect(caller.vaddr == "whoami")
                    #expect(caller.body_bytes == 5)
                    await client.close()
                }
            }
        }

        @Test func `plain clients and old versions of TLS are refused at once and counted`() async throws {
            try await Self.serving { host in
                let plain = Node()
                let error = await #expect(throws: AstraNetError.self) {
                    try await plain.join(host: "127.0.0.1", port: host.port, deadline: .now + TestClient.patience)
                }
                #expect(error?.code != .deadlineExceeded)
                await plain.shutdown(grace: .zero)
                let openssl = try await Self.openSSL(host, "-tls1_2")
                #expect(openssl.contains("protocol version"), "\(openssl)")
                #expect(try await Self.openSSL(host, "-tls1_3").contains("TLSv1.3"))
                let status = try await ChanservCommand.run("status", "--json", "--config", host.configurationFile)
                #expect(
                    status.text.contains(#""insecure":"#) && !status.text.contains(#""insecure":0"#), "\(status.text)")
            }
        }

        private static func openSSL(_ host: ServedHost, _ version: String) async throws -> String {
            let exit = try await ChildProcess(
                "/usr/bin/openssl",
                [
                    "s_client", "-connect", host.address, version, "-CAfile", host.folder.file("first/ca.pem"), "-cert",
                    host.folder.file("first/shop.pem"), "-key", host.folder.file("first/shop.key"), "-brief",
                ], input: Data()
            ).exit()
            return exit.text + exit.errors
        }

        @Test func `the command joins over TLS with options, and with client yaml`() async throws {
            try await Self.serving { host in
                let folder = host.folder
                let options = [
                    "--tls-ca", folder.file("first/ca.pem"), "--tls-cert", folder.file("first/shop.pem"), "--tls-key",
                    folder.file("first/shop.key"), "--server-name", "localhost",
                ]
                let post = try await ChanservCommand.run(
                    ["post", "echo", "--body", "hello", "--output", "raw", "--join", host.address] + options)
                #expect(post.text == "hello", "\(post.errors)")
                let wrong = try await ChanservCommand.run(
                    ["post", "echo", "--join", host.address] + options.dropLast() + ["other.mesh"])
                #expect(wrong.code == 69)
                #expect(
                    wrong.errors.contains("'localhost'") && wrong.errors.contains("'other.mesh'"), "\(wrong.errors)")

                try FileManager.default.createDirectory(
                    atPath: folder.file("config/chanserv"), withIntermediateDirectories: true)
                try """
                join: {address: "\(host.address)"}
                tls: {ca: ../../first/ca.pem, certificate: ../../first/shop.pem, key: ../../first/shop.key, name: localhost}
                """.write(toFile: folder.file("config/chanserv/client.yaml"), atomically: true, encoding: .utf8)
                let configured = try await ChildProcess(
                    "/usr/bin/env",
                    ["XDG_CONFIG_HOME=\(folder.file("config"))", ChanservCommand.buildFolder + "/chanserv", "mesh"]
                ).exit()
                #expect(configured.text.contains("echo"), "\(configured.text)\(configured.errors)")
            }
        }

        @Test func `a Unix socket proves the user of the client`() async throws {
            let configuration = """
                node: {listen: [127.0.0.1:0, "unix:mesh.sock"]}
                access:
                  identities:
                    me: {uid: \(getuid())}
                plugins:
                  echo: {path: libEcho.so}
                routes:
                  - {vaddr: mine, plugin: echo, access: {allow: [me]}}
                """
            try await ServedHost.serving(configuration, prepare: Self.prepare) { host in
                let socket = host.folder.file("mesh.sock")
                let mine = try await ChanservCommand.run(
                    "post", "mine", "--join", "unix:\(socket)", "--body", "hello", "--output", "raw")
                #expect(mine.text == "hello", "\(mine.errors)")
                let other = try await ChanservCommand.run("post", "mine", "--join", host.address, "--body", "hello")
                #expect(other.code == 69 && other.errors.contains("not allowed"), "\(other.errors)")
                let mode = try FileManager.default.attributesOfItem(atPath: socket)[.posixPermissions] as? Int
                #expect(mode == 0o600)
            }
        }
    }
}
