/// Finds the known key that a misspelt one probably meant, by edit distance.
package enum NearestKey {
    /// Maximum length of a word that is compared. The cost is the product of the lengths, and all keys are much
    /// shorter.
    static let longest = 64

    /// Returns the key in `known` that is nearest to `word`, or `nil` if none is near: at most a third of the letters
    /// (or one) may differ. Case is ignored. Of two equally near keys the first is returned.
    package static func find(_ word: String, among known: some Sequence<String>) -> String? {
        let letters = Array(word.lowercased().unicodeScalars)
        guard !letters.isEmpty, letters.count <= longest else { return nil }
        var best: (key: String, distance: Int)?
        for key in known {
            let other = Array(key.lowercased().unicodeScalars)
            guard !other.isEmpty, other.count <= longest else { continue }
            let distance = distance(letters, other)
            let allowed = max(1, max(letters.count, other.count) / 3)
            // A word that shares no letter with the key is not a misspelling of it, even if both are short.
            guard distance <= allowed, distance < max(letters.count, other.count) else { continue }
            if distance < best?.distance ?? .max { best = (key, distance) }
        }
        return best?.key
    }

    /// Returns `; did you mean 'key'?`, or an empty text.
    package static func hint(_ word: String, among known: some Sequence<String>) -> String {
        find(word, among: known).map { "; did you mean \(quoted($0))?" } ?? ""
    }

    /// Returns the Damerau–Levenshtein distance in its "optimal string alignment" form. An insertion, a deletion, a
    /// replacement and a swap of two neighbours count one each.
    package static func distance<Element: Equatable>(_ left: [Element], _ right: [Element]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for row in left.indices {
            var current = [row + 1]
            current.reserveCapacity(right.count + 1)
            for column in right.indices {
                let same = left[row] == right[column]
                var cost = min(last[column] + (same ? 0 : 1), last[column + 1] + 1, current[column] + 1)
                if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                    cost = min(cost, beforeLast[column - 1] + 1)
                }
                current.append(cost)
            }
            (beforeLast, last) = (last, current)
        }
        return last[right.count]
    }
}
