import Testing

@testable import ChanservCLI

@Suite struct MissingOfferTests {
    @Test(arguments: [
        ("ehco", "", ["echo", "files"], "no node offers 'ehco' (waited 1m30s); did you mean 'echo'?"),
        ("ehco", "", [], "no node offers 'ehco' (waited 1m30s)"),
        ("ehco", "staging", ["echo.staging", "ehcos"], "no node offers 'ehco' (waited 1m30s); did you mean 'echo'?"),
        (
            "echo", "", ["echo.staging"],
            "no node offers 'echo' (waited 1m30s); it is offered in the environment 'staging': give it with "
                + "--environment"
        ),
        (
            "echo", "test", ["echo"],
            "no node offers 'echo' (waited 1m30s); it is offered without an environment: omit --environment"
        ),
    ])
    func `the message has the name once and a suggestion from the known names`(
        vAddr: String, environment: String, names: [String], message: String
    ) {
        let missing = MissingOffer(vAddr: vAddr, environment: environment, names: names)
        #expect(missing?.message(waited: .seconds(90)) == message)
    }

    @Test func `an address that is offered is not missing`() {
        #expect(MissingOffer(vAddr: "echo", environment: "", names: ["echo"]) == nil)
        #expect(MissingOffer(vAddr: "echo", environment: "a", names: ["echo.a"]) == nil)
    }
}
