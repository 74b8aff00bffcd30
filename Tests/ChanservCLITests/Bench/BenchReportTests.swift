import ChanservCLI
import Testing

@Suite struct BenchReportTests {
    private static func report(_ runs: [[Figure]]) -> BenchReport {
        BenchReport(
            workload: "flood", summary: "all of it", parameters: ["frames": .integer(3), "kind": .text("zero")],
            isVerified: false, ownHost: true, runs: runs)
    }

    @Test func `a report of one run has one value column`() {
        let report = Self.report([[Figure("latency_p50", 1234.5, "us"), Figure("frames", 12, "1/s")]])
        #expect(
            report.text == """
                flood: all of it
                FIGURE       VALUE  UNIT
                latency p50  1,235  us
                frames          12  1/s

                """)
    }

    @Test func `a report of several runs has median, minimum and maximum`() {
        var report = Self.report([[Figure("f", 5, "s")], [Figure("f", 1, "s")], [Figure("f", 2, "s")]])
        report.isVerified = true
        #expect(
            report.text == """
                flood: all of it, 3 runs, content of every frame verified
                FIGURE  MEDIAN  MIN  MAX  UNIT
                f            2    1    5  s

                """)
        report.runs.append([Figure("f", 3, "s")])
        #expect(
            report.json
                == #"{"figures":{"f":{"max":5,"median":2.5,"min":1,"unit":"s","values":[5,1,2,3]}},"host":"own","#
                + #""parameters":{"frames":3,"kind":"zero"},"runs":4,"verified":true,"workload":"flood"}"# + "\n")
    }

    @Test(arguments: [
        (0, "0"), (0.1234, "0.123"), (0.9996, "1.000"), (1, "1"), (1.005, "1.00"), (12.34, "12.3"), (-12.34, "-12.3"),
        (100.4, "100"), (999.6, "1,000"), (1_234_567.8, "1,234,568"), (123_456, "123,456"), (-0.0001, "0.000"),
        (1e18, "1e+18"), (.infinity, "inf"),
    ]) func `figures are formatted with separators and significant digits`(value: Double, text: String) {
        #expect(Figure.text(value) == text)
    }
}
