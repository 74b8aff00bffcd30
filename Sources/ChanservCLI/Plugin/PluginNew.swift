import ArgumentParser

/// `chanserv plugin new`: creates a folder with a working plugin.
struct PluginNew: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new",
        abstract: "Creates a folder with a working plugin as a starting point.",
        usage: "chanserv plugin new <name> [<options>]",
        discussion: """
            The plugin answers a request with one source per word. The folder has its source code and these files.

            FILES
              build          builds the plugin; needs only the
                             compiler of its language
              test           builds and serves the plugin, posts
                             requests and checks the responses
              chanserv.yaml  a configuration with the plugin and
                             its route

            LANGUAGES
              c, cpp  with the header in include/
              swift   with a copy of the SDK; with --sdk, depends
                      on the chanserv package instead
              rust    no crates; src/chanserv.rs has the
                      declarations of the header in Rust
              go      uses cgo, which also needs a C compiler.
                      Go's runtime installs handlers for
                      SIGSEGV, SIGBUS, SIGFPE, SIGPIPE and SIGURG
                      in the host and forwards signals that are
                      not Go's. A Go plugin must not call
                      os/signal.Notify

            Exit codes: 0 created; 64 the name is invalid or the folder exists; 69 the folder cannot be written.

            EXAMPLES
              chanserv plugin new quotes
              chanserv plugin new quotes --language rust
              chanserv plugin new quotes --language swift \\
                --sdk ../chanserv
              cd quotes && ./test
            """)

    @Argument(
        help: """
            The name of the plugin and its folder: a lower-case letter, then lower-case letters, digits or '_', at \
            most 63 characters.
            """,
        transform: { try PluginName($0) })
    var name: PluginName

    @Option(help: "The language of the plugin.")
    var language = PluginLanguage.c

    @Option(
        help: ArgumentHelp(
            "Swift only: the chanserv package to depend on, instead of a copy of its SDK.", valueName: "path or url"),
        transform: utf8Text)
    var sdk: String?

    func validate() throws {
        if sdk != nil && language != .swift { throw ValidationError("--sdk needs --language swift") }
    }

    func run() async throws {
        let plugin = NewPlugin(name: name, language: language, sdk: sdk)
        do {
            try PluginFolder.write(plugin.files, to: name.text)
        } catch {
            StandardError.report("\(error)")
            throw ExitCode(error.code == .exists ? 64 : 69)
        }
        try StandardOutput.write(
            """
            Created a \(language.title) plugin in \(name.text)/. Next steps:

              cd \(name.text)
              ./test            # builds, serves and tests it
              chanserv serve    # serves it until Ctrl-C

            In another terminal:

              chanserv post \(name.text) --body 'hi mesh'

            To serve it from another chanserv.yaml, copy the plugin and the route from \(name.text)/chanserv.yaml.

            """)
    }
}

/// `chanserv plugin include-dir`: prints the folder for the compiler's `-I` option.
struct PluginIncludeDir: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "include-dir",
        abstract: "Prints the path of a folder with chanserv_plugin.h.",
        discussion: """
            The header has the version of this command. If the folder does not exist yet, the command creates it in \
            the user's cache ($XDG_CACHE_HOME or ~/.cache).

            Exit codes: 0 success; 69 the header cannot be written.

            EXAMPLES
              cc -I "$(chanserv plugin include-dir)" \\
                -fPIC -shared -fvisibility=hidden \\
                -o quotes.so quotes.c
            """)

    func run() async throws {
        let path: String
        do {
            path = try IncludeFolder.path()
        } catch {
            StandardError.report("\(error)")
            throw ExitCode(69)
        }
        try StandardOutput.write("\(path)\n")
    }
}

extension PluginLanguage: ExpressibleByArgument {}
