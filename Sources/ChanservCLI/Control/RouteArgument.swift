import ArgumentParser

/// The argument of commands that control one route.
struct RouteArgument: ParsableArguments {
    @Argument(
        help: ArgumentHelp("The virtual address, without its environment.", valueName: "vaddr"), transform: utf8Text)
    var vAddr: String
}
