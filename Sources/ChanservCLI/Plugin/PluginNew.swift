import ArgumentParser

/// `chanserv plugin new`: a folder to begin with.
struct PluginNew: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new",
        abstract: "Makes a folder with a plugin that works, to begin with.",
        discussion: """
            The folder has the source, 'build', which needs the language's own compiler and nothing else, 'test', which \
            builds, serves and asks the plugin, and 'chanserv.yaml' with the route to paste. The plugin answers with a \
            source for each word of the request.

            LANGUAGES
              c, cpp  with the header under include/
              swift   with a copy of the SDK, or with --sdk as a package that depends on chanserv's
              rust    without crates; the header as Rust is src/chanserv.rs
              go      by cgo. Go's runtime installs handlers for SIGSEGV, SIGBUS, SIGFPE and SIGURG in the host, and \
            passes on what is not its own; plugins must not call os/signal.Notify

            Exits with 0, with 64 where the name is none or the folder exists, or with 69 where it cannot be written.

            EXAMPLES
              chanserv plugin new quotes
              chanserv plugin new quotes --language rust
              chanserv plugin new quotes --language swift --sdk ../chanserv
              cd quotes && ./test
            """)

    @Argument(
        help: "The plugin's name, and its folder's: a lower-case letter, then lower-case letters, digits and '_'.",
        transform: { try PluginName($0) })
    var name: PluginName

    @Option(help: "c, cpp, swift, rust or go.")
    var language = PluginLanguage.c

    @Option(
        help: ArgumentHelp(
            "Swift only: the chanserv package to depend on, instead of a copy of its SDK.", valueName: "path or url"))
    var sdk: String?

    func validate() throws {
        if sdk != nil && language != .swift { throw ValidationError("--sdk is for --language swift only.") }
    }

    func run() async throws {
        let plugin = NewPlugin(name: name, language: language, sdk: sdk)
        do {
            try PluginFolder.write(plugin.files, to: name.text)
        } catch {
            StandardError.write("\(error)")
            throw ExitCode(error.code == .exists ? 64 : 69)
        }
        print(
            """
            \(name.text)/ has a plugin in \(language.title). Next:

              cd \(name.text)
              ./test                # builds it, serves it, and asks it
              chanserv serve        # serves it alone, until Ctrl-C; and in another terminal:
              chanserv post \(name.text) --body 'hi mesh'

            The route to paste into another chanserv.yaml is in \(name.text)/chanserv.yaml.
            """)
    }
}

/// `chanserv plugin include-dir`: for the compiler's `-I`.
struct PluginIncludeDir: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "include-dir",
        abstract: "Prints a folder that has chanserv_plugin.h.",
        discussion: """
            The header is that of this command. It is written to the user's cache ($XDG_CACHE_HOME, or ~/.cache) where it \
            is not there yet. Exits with 0, or with 69 where it cannot be written.

            EXAMPLES
              cc -I "$(chanserv plugin include-dir)" -fPIC -shared -fvisibility=hidden -o quotes.so quotes.c
            """)

    func run() async throws {
        do {
            print(try IncludeFolder.path())
        } catch {
            StandardError.write("\(error)")
            throw ExitCode(69)
        }
    }
}

extension PluginLanguage: ExpressibleByArgument {}
