/// Returns the key of `known` that is most similar to a misspelt word; `nil` if more than a third of its letters, and
/// more than one, differ. The host uses the same rule for its own keys.
func nearest(_ word: String, among known: [String]) -> String? {
    let letters = Array(word.lowercased().unicodeScalars)
    var best: (key: String, distance: Int)?
    for key in known {
        let other = Array(key.lowercased().unicodeScalars)
        // Longer words are not keys. The run time is the product of the lengths.
        guard letters.count <= 64, other.count <= 64 else { continue }
        let distance = distance(letters, other)
        guard distance <= max(1, max(letters.count, other.count) / 3), distance < max(letters.count, other.count),
            distance < best?.distance ?? .max
        else { continue }
        best = (key, distance)
    }
    return best?.key
}

/// Returns the number of insertions, deletions, replacements and exchanges of neighbouring letters between the two
/// words.
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
