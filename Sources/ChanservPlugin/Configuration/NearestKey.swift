/// The one of `known` that a misspelt word probably meant; `nil` where more than a third of the letters, and more than one,
/// would have to change. The same rule as the host's for its own keys.
func nearest(_ word: String, among known: [String]) -> String? {
    let letters = Array(word.lowercased().unicodeScalars)
    var best: (key: String, distance: Int)?
    for key in known {
        let other = Array(key.lowercased().unicodeScalars)
        // Longer ones are not keys, and the cost is the product of the lengths.
        guard letters.count <= 64, other.count <= 64 else { continue }
        let distance = distance(letters, other)
        guard distance <= max(1, max(letters.count, other.count) / 3), distance < max(letters.count, other.count),
            distance < best?.distance ?? .max
        else { continue }
        best = (key, distance)
    }
    return best?.key
}

/// How many letters have to be put in, taken out or replaced, or exchanged with their neighbour.
private func distance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...right.count)
    for row in left.indices {
        var current = [row + 1]
        for column in right.indices {
            let replaced = last[column] + (left[row] == right[column] ? 0 : 1)
            var cost = min(replaced, last[column + 1] + 1, current[column] + 1)
            if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                cost = min(cost, beforeLast[column - 1] + 1)
            }
            current.append(cost)
        }
        (beforeLast, last) = (last, current)
    }
    return last[right.count]
}
