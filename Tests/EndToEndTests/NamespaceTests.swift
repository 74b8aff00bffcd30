import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// A mesh whose nodes reach each other only through a router. Each node has its own network namespace.
    @Suite(.serialized, .timeLimit(.minutes(5))) struct Namespaces {
        private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Namespaces/mesh.sh").path
        /// The options of `unshare`. With a new process namespace, all processes of a run end with its first process.
        /// The namespace needs its own `/proc`: Swift's thread pool reads `/proc/<thread>/stat` of its threads, and
        /// traps if one is missing.
        private static let own = [
            "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        ]

        /// The reason why no namespaces can be made here; `nil` if they can.
        private static func obstacle() async -> String? {
            let probe = """
                mount -t tmpfs none /run && ip netns add probe && ip link add probe-a type veth peer name probe-b
                """
            do {
                let exit = try await ChildProcess("/usr/bin/unshare", own + ["/bin/sh", "-c", probe]).exit()
                return exit.code == 0 ? nil : "exit code \(exit.code): \(exit.errors)"
            } catch {
                return "\(error)"
            }
        }

        @Test(
            .enabled("network namespaces can be made") {
                guard let obstacle = await obstacle() else { return true }
                print("skipped, because no network namespaces can be made here: \(obstacle)")
                return false
            })
        func `a mesh is served through a router, finds direct paths and heals after a partition`() async throws {
            let folder = try TestFolder()
            try ServedHost.copyBuilt("libEcho.so", to: folder)
            let exit = try await ChildProcess(
                "/usr/bin/unshare",
                Self.own + [
                    Self.script, "\(ChanservCommand.buildFolder)/chanserv", folder.file("libEcho.so"), folder.path,
                ]
            ).exit()
            #expect(exit.lines.count { $0.hasPrefix("ok: ") } == 3, "\(exit.text)\(exit.errors)")
            #expect(exit.code == 0)
        }
    }
}
