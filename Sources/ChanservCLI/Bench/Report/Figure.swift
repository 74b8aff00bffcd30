/// A measured value.
package struct Figure: Sendable, Equatable {
    /// The key in the JSON report, such as `latency_p50`. The text report replaces `_` by a space.
    var name: String
    var value: Double
    var unit: String

    package init(_ name: String, _ value: Double, _ unit: String) {
        self.name = name
        self.value = value
        self.unit = unit
    }

    /// Formats a number with at least three significant digits and with thousands separators.
    package static func text(_ value: Double) -> String {
        guard value.isFinite else { return "\(value)" }
        let magnitude = abs(value)
        let decimals = magnitude >= 100 || value == value.rounded() ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3
        var scale = 1.0
        for _ in 0..<decimals { scale *= 10 }
        let rounded = (magnitude * scale).rounded()
        guard rounded < 1e15 else { return "\(value)" }
        let (whole, rest) = Int(rounded).quotientAndRemainder(dividingBy: Int(scale))
        var digits = String(whole)
        for place in stride(from: digits.count - 3, to: 0, by: -3) {
            digits.insert(",", at: digits.index(digits.startIndex, offsetBy: place))
        }
        let fraction = String(rest)
        let sign = value < 0 && rounded > 0 ? "-" : ""
        return decimals == 0
            ? sign + digits
            : sign + digits + "." + String(repeating: "0", count: decimals - fraction.count) + fraction
    }
}

/// The value of a benchmark option in the JSON report.
package enum BenchParameter: Sendable, Equatable, Encodable {
    case integer(Int)
    case number(Double)
    case text(String)
    case flag(Bool)

    package func encode(to encoder: any Encoder) throws {
        switch self {
        case .integer(let value): try value.encode(to: encoder)
        case .number(let value): try value.encode(to: encoder)
        case .text(let value): try value.encode(to: encoder)
        case .flag(let value): try value.encode(to: encoder)
        }
    }
}
