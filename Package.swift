// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is built the same way: Swift 6 mode comes with the tools version, and a warning is an error.
let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]
let strictC: [CSetting] = [.unsafeFlags(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"])]

/// The commit that `chanserv version --json` prints. `scripts/package` sets it; other builds have none, so that a commit
/// does not cause a build.
let commit: [CSetting] =
    Context.environment["CHANSERV_COMMIT"].map { [.define("CHANSERV_COMMIT", to: "\"\($0)\"")] } ?? []

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let nioConcurrency: Target.Dependency = .product(name: "NIOConcurrencyHelpers", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let metricsTest: Target.Dependency = .product(name: "MetricsTestKit", package: "swift-metrics")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let asn1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")

let package = Package(
    name: "chanserv",
    products: [
        .executable(name: "chanserv", targets: ["ChanservCLI"]),
        .library(name: "AstraNet", targets: ["AstraNet"]),
        .library(name: "AstraNetTLS", targets: ["AstraNetTLS"]),
        .library(name: "Chanserv", targets: ["Chanserv"]),
        .library(name: "ChanservAstraNet", targets: ["ChanservAstraNet"]),
        .library(name: "ChanservHost", targets: ["ChanservHost", "HostConfiguration"]),
        .library(name: "ChanservPlugin", targets: ["ChanservPlugin"]),
        // The sample plugins. Their names must not collide with products of other packages; scripts/run installs them as libEcho.so
        // and so on.
        .library(name: "ChanservEcho", type: .dynamic, targets: ["ChanservEcho"]),
        .library(name: "ChanservExec", type: .dynamic, targets: ["ChanservExec"]),
        .library(name: "ChanservFiles", type: .dynamic, targets: ["ChanservFiles"]),
        .library(name: "ChanservLoad", type: .dynamic, targets: ["ChanservLoad"]),
        .library(name: "ChanservSQLite", type: .dynamic, targets: ["ChanservSQLite"]),
        .library(name: "ChanservTicker", type: .dynamic, targets: ["ChanservTicker"]),
        .library(name: "ChanservWhoami", type: .dynamic, targets: ["ChanservWhoami"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // The network: the AstraNet multiplexer, a library of its own.
        .target(
            name: "AstraNet", dependencies: [nioCore, nioPosix, nioConcurrency, deque, logging, crypto],
            swiftSettings: strict),

        // TLS on links. A target of its own, because BoringSSL takes minutes to build.
        .target(
            name: "AstraNetTLS",
            dependencies: ["AstraNet", nioCore, nioConcurrency, nioTLS, nioSSL, x509, asn1, crypto],
            swiftSettings: strict),

        .executableTarget(
            name: "IdleStreams", dependencies: ["AstraNet", nioCore], path: "Tests/Benchmarks/IdleStreams",
            swiftSettings: strict),

        // chanserv on any multiplexer, and the few lines that join it to AstraNet.
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .target(
            name: "Chanserv", dependencies: ["CLZ4", "CScheduler", nioCore, nioConcurrency, deque, lifecycle, metrics],
            swiftSettings: strict),
        .target(name: "ChanservAstraNet", dependencies: ["AstraNet", "Chanserv"], swiftSettings: strict),

        // Plugins: the C ABI, the Swift SDK over it, and the samples.
        // Without unsafe flags, which packages that depend on this one by a URL may not have.
        .target(
            name: "CChanservPlugin",
            cSettings: [.enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error)]),
        .target(name: "ChanservPlugin", dependencies: ["CChanservPlugin"], swiftSettings: strict),
        .target(
            name: "ChanservEcho", dependencies: ["CChanservPlugin"], path: "Plugins/Echo", publicHeadersPath: ".",
            cSettings: strictC),
        .target(
            name: "ChanservExec", dependencies: ["CChanservPlugin", "ChanservPlugin", "CProcess"], path: "Plugins/Exec",
            swiftSettings: strict),
        // Error messages and UTF-8, for the samples in C.
        .target(
            name: "CPluginSupport", dependencies: ["CChanservPlugin"], path: "Plugins/Support", publicHeadersPath: ".",
            cSettings: strictC),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .target(
            name: "ChanservFiles", dependencies: ["CChanservPlugin", "CPluginSupport", "CZlib", "CZstd"],
            path: "Plugins/Files", publicHeadersPath: ".", cSettings: strictC + [.headerSearchPath(".")],
            linkerSettings: [.linkedLibrary("z"), .linkedLibrary("zstd")]),
        .target(
            name: "ChanservLoad", dependencies: ["CChanservPlugin"], path: "Plugins/Load", publicHeadersPath: ".",
            cSettings: strictC),
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .target(
            name: "ChanservSQLite", dependencies: ["CChanservPlugin", "CPluginSupport", "CSQLite"],
            path: "Plugins/SQLite", publicHeadersPath: ".", cSettings: strictC,
            linkerSettings: [.linkedLibrary("sqlite3")]),
        .target(
            name: "ChanservTicker", dependencies: ["CChanservPlugin", "ChanservPlugin"], path: "Plugins/Ticker",
            swiftSettings: strict),
        .target(
            name: "ChanservWhoami", dependencies: ["CChanservPlugin", "CPluginSupport"], path: "Plugins/Whoami",
            publicHeadersPath: ".", cSettings: strictC),

        // The host and its command line.
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        // What Linux has for holding processes, which Swift cannot call.
        .systemLibrary(name: "CProcess"),
        // Descriptors in messages of Unix sockets, whose macros Swift cannot call.
        .target(name: "CSocket", cSettings: strictC),
        .target(name: "HostConfiguration", dependencies: ["CYAML"], swiftSettings: strict),
        // The host's side of the plugin ABI: the getters of the ABI read a plugin's part of the configuration.
        .target(
            name: "PluginRuntime",
            dependencies: [
                "Chanserv", "CChanservPlugin", "CProcess", "HostConfiguration", logging, nioConcurrency, nioCore,
                nioPosix, deque, crypto,
            ],
            swiftSettings: strict),
        // The cases of `chanserv plugin test`.
        .target(
            name: "PluginConformance",
            dependencies: [
                "CChanservPlugin", "CMalloc", "CProcess", "HostConfiguration", "PluginRuntime", logging,
                nioConcurrency, deque,
            ],
            swiftSettings: strict),
        .target(
            name: "ChanservHost",
            dependencies: [
                "AstraNet", "AstraNetTLS", "Chanserv", "ChanservAstraNet", "CProcess", "CSocket", "HostConfiguration",
                "PluginRuntime", logging, nioConcurrency, nioCore, nioPosix,
            ],
            swiftSettings: strict),
        // malloc's options, which Swift's Glibc module leaves out.
        .systemLibrary(name: "CMalloc"),
        // The commit of the build.
        .target(name: "CBuild", cSettings: strictC + commit),
        // A system call that it leaves out too.
        .systemLibrary(name: "CScheduler"),
        .executableTarget(
            name: "ChanservCLI",
            dependencies: [
                "AstraNet", "AstraNetTLS", "CBuild", "CChanservPlugin", "Chanserv", "ChanservAstraNet", "ChanservHost",
                "CMalloc", "CProcess", "HostConfiguration", "PluginConformance", "PluginRuntime", asn1, crypto, logging,
                nioCore, nioConcurrency, nioPosix, x509,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            // EmbedFiles compiles them in.
            exclude: ["Plugin/Templates"],
            swiftSettings: strict, plugins: ["EmbedFilesPlugin"]),
        // The build tool that generates the dictionaries of files which the command writes.
        .executableTarget(name: "EmbedFiles", swiftSettings: strict),
        .plugin(
            name: "EmbedFilesPlugin", capability: .buildTool(), dependencies: ["EmbedFiles"],
            path: "Sources/EmbedFilesPlugin"),

        // The examples of the documentation, compiled with the package.
        .executableTarget(
            name: "PostRequestExample", dependencies: ["AstraNet", "Chanserv", "ChanservAstraNet"],
            path: "Examples/PostRequest", swiftSettings: strict),
        .executableTarget(
            name: "ServeRequestsExample",
            dependencies: ["AstraNet", "Chanserv", "ChanservAstraNet", lifecycle, logging],
            path: "Examples/ServeRequests", swiftSettings: strict),
        .executableTarget(
            name: "DialStreamExample", dependencies: ["AstraNet", nioCore], path: "Examples/DialStream",
            swiftSettings: strict),

        // What several test targets use: programs as processes, plugins compiled from C.
        .target(
            name: "TestSupport", dependencies: ["CProcess", "PluginRuntime", logging, nioConcurrency],
            path: "Tests/TestSupport",
            swiftSettings: strict),
        .testTarget(
            name: "AstraNetTests",
            dependencies: [
                "AstraNet", "AstraNetTLS", "Chanserv", "ChanservAstraNet", "TestSupport", logging, nioConcurrency,
                nioCore, nioPosix,
            ],
            exclude: ["Fixtures"], swiftSettings: strict),
        .testTarget(
            name: "AstraNetTLSTests",
            dependencies: ["AstraNet", "AstraNetTLS", "TestSupport", asn1, crypto, logging, nioCore, nioPosix, x509],
            swiftSettings: strict),
        .testTarget(
            name: "ChanservTests",
            dependencies: [
                "Chanserv", "ChanservAstraNet", "AstraNet", "CScheduler", logging, metrics, metricsTest, nioConcurrency,
                nioCore,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "HostConfigurationTests", dependencies: ["HostConfiguration", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "PluginRuntimeTests",
            dependencies: [
                "AstraNet", "Chanserv", "ChanservAstraNet", "ChanservHost", "ChanservPlugin", "CChanservPlugin",
                "CProcess", "HostConfiguration", "PluginRuntime", "TestSupport", logging, nioConcurrency, nioCore,
                nioPosix,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ChanservHostTests",
            dependencies: [
                "AstraNet", "Chanserv", "ChanservAstraNet", "ChanservHost", "HostConfiguration", "PluginRuntime",
                "TestSupport", logging, nioConcurrency, nioCore, nioEmbedded,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ChanservCLITests",
            dependencies: ["AstraNetTLS", "ChanservCLI", "ChanservAstraNet", "TestSupport"],
            exclude: ["Plugins"], swiftSettings: strict),
        // The whole: the built command as a process, plugins, signals, clients of the library.
        .testTarget(
            name: "EndToEndTests",
            dependencies: [
                "AstraNet", "AstraNetTLS", "CProcess", "Chanserv", "ChanservAstraNet", "ChanservCLI", "ChanservHost",
                "TestSupport", nioConcurrency, nioCore,
            ],
            exclude: ["Plugins", "Namespaces"], swiftSettings: strict),
        // Whole meshes of real nodes under a virtual clock, run by scripts/simulate.
        .executableTarget(
            name: "AstraNetSimulation",
            dependencies: ["AstraNet", "Chanserv", "ChanservAstraNet", logging, nioCore, nioEmbedded, deque],
            path: "Tests/Simulation", swiftSettings: strict),
        // One path of a frame at a time, of which scripts/guard counts the instructions.
        .executableTarget(
            name: "FramePaths",
            dependencies: ["AstraNet", "Chanserv", "ChanservAstraNet", logging, nioCore, nioEmbedded, deque],
            path: "Tests/Benchmarks/FramePaths", swiftSettings: strict,
            // Valgrind knows functions by their symbols, and gives up at the debug information of newer compilers.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--strip-debug"])]),
        // The plugins are loaded from the build folder, as the host does: linked, their entry points would clash.
        .testTarget(
            name: "PluginTests",
            dependencies: ["CChanservPlugin", "ChanservPlugin", "CSQLite", "CZlib", "CZstd", "TestSupport"],
            swiftSettings: strict),
    ]
)
