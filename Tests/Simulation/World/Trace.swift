/// The events of a run as text, for debugging.
final class Trace {
    let isOn: Bool
    private(set) var lines: [String] = []

    init(isOn: Bool) {
        self.isOn = isOn
    }

    func add(_ time: UInt64, _ text: String) {
        guard isOn else { return }
        let microseconds = time / 1_000
        let fraction = String(microseconds % 1_000_000)
        lines.append(
            "\(microseconds / 1_000_000).\(String(repeating: "0", count: 6 - fraction.count))\(fraction)  \(text)")
    }
}
