import Foundation
import Testing

/// The examples are compiled with the package. The documentation shows them as they are.
@Suite struct ExampleTests {
    private static let root = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../..").standardized

    @Test(arguments: [
        ("DialStream", "Sources/AstraNet/AstraNet.docc/AstraNet.md"),
        ("PostRequest", "Sources/Chanserv/Chanserv.docc/Chanserv.md"),
        ("ServeRequests", "Sources/Chanserv/Chanserv.docc/Chanserv.md"), ("DialStream", "docs/astranet.md"),
        ("PostRequest", "docs/clients.md"), ("ServeRequests", "docs/clients.md"),
    ]) func `the documentation shows the compiled example`(example: String, document: String) throws {
        let source = try String(
            contentsOf: Self.root.appendingPathComponent("Examples/\(example)/main.swift"), encoding: .utf8)
        let code = try #require(source.range(of: "import ").map { source[$0.lowerBound...] })
        let text = try String(contentsOf: Self.root.appendingPathComponent(document), encoding: .utf8)
        #expect(text.contains("```swift\n\(code)```\n"))
    }
}
