import HostConfiguration
import Testing

@Suite struct NearestKeyTests {
    private let known = ["compression", "timeouts", "error_mass", "drain", "path", "to"]

    @Test(arguments: [
        ("compresion", "compression"),  // a letter missing
        ("commpression", "compression"),  // a letter too many
        ("comprezsion", "compression"),  // a wrong letter
        ("rdain", "drain"),  // two letters swapped
        ("Drain", "drain"),  // case only
        ("errormass", "error_mass"),
        ("error-mass", "error_mass"),
        ("paht", "path"),
        ("ot", "to"),
    ])
    func `a misspelt key finds the intended key`(word: String, key: String) {
        #expect(NearestKey.find(word, among: known) == key)
    }

    @Test(arguments: ["", "colour", "x", "pressure", "timeline", String(repeating: "drain", count: 100)])
    func `a key without a similar known key finds nothing`(word: String) {
        #expect(NearestKey.find(word, among: known) == nil)
    }

    @Test func `the closest key is preferred, and the first one among equally close keys`() {
        #expect(NearestKey.find("abcd", among: ["abxd", "abcde", "abcd"]) == "abcd")
        #expect(NearestKey.find("abcd", among: ["abxd", "abcx"]) == "abxd")
    }

    @Test(arguments: [
        ("", "", 0), ("", "abc", 3), ("abc", "", 3), ("ca", "ac", 1), ("kitten", "sitting", 3), ("abcd", "badc", 2),
    ])
    func `the distance counts insertions, deletions, replacements and swaps`(
        left: String, right: String, distance: Int
    ) {
        #expect(NearestKey.distance(Array(left), Array(right)) == distance)
    }
}
