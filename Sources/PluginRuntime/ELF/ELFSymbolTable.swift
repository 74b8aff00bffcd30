/// Symbol lookup by name, as `dlsym` does it: through the hash table, which contains only exported symbols.
package struct ELFSymbolTable: Sendable {
    private let symbols: ELFBytes
    private let strings: ELFBytes
    private let gnuHash: ELFBytes?
    private let systemVHash: ELFBytes?

    /// Maximum number of symbols to search for the reason why a symbol is not exported.
    private static let maximumCount: UInt64 = 1 << 20

    /// `nil` if the library has no symbol table that `dlsym` could use.
    package init?(_ dynamic: ELFDynamic) {
        guard let symbols = dynamic.symbols, dynamic.gnuHash != nil || dynamic.systemVHash != nil else { return nil }
        self.symbols = symbols
        strings = dynamic.strings
        gnuHash = dynamic.gnuHash
        systemVHash = dynamic.systemVHash
    }

    package func exported(_ name: StaticString) -> ELFSymbol? {
        gnuHash.map { inGNU($0, name) } ?? systemVHash.flatMap { inSystemV($0, name) }
    }

    /// Passes all symbols, including undefined ones, to `body` until it returns a result or the table ends.
    package func first<Result>(_ body: (ELFSymbol, _ names: ELFBytes) -> Result?) -> Result? {
        for index in 0..<min(count, Self.maximumCount) {
            guard let symbol = ELFSymbol(symbols, at: index) else { return nil }
            if let result = body(symbol, strings) { return result }
        }
        return nil
    }

    /// Names that the linker defines in every library.
    package static let linkerSymbols: Set<String> = [
        "_init", "_fini", "__bss_start", "_edata", "_end", "__end__", "end", "edata",
    ]

    /// Passes each symbol that the library shares with others to `body`, with its name. Includes undefined ones.
    package func forEachVisible(_ body: (ELFSymbol, _ name: String) -> Void) {
        let _: Void? = first { symbol, names in
            // Names of C++ templates can be very long.
            if symbol.isVisible, let name = names.text(at: symbol.name, maximum: 1 << 20) {
                body(symbol, name)
            }
            return nil
        }
    }

    private func symbol(_ index: UInt64, named name: StaticString) -> ELFSymbol? {
        guard let symbol = ELFSymbol(symbols, at: index), symbol.isDefined, strings.hasText(name, at: symbol.name)
        else { return nil }
        return symbol
    }

    // MARK: DT_GNU_HASH: four numbers, a filter, the first symbol of each bucket, the hash of each symbol

    private struct GNU {
        var bucketCount, firstSymbol: UInt64
        var buckets, hashes: ELFBytes

        init?(_ table: ELFBytes) {
            guard let bucketCount: UInt32 = table.integer(at: 0), bucketCount > 0,
                let firstSymbol: UInt32 = table.integer(at: 4), let filterSize: UInt32 = table.integer(at: 8),
                let buckets = table.slice(from: 16 + UInt64(filterSize) * 8),
                let hashes = buckets.slice(from: UInt64(bucketCount) * 4)
            else { return nil }
            self.bucketCount = UInt64(bucketCount)
            self.firstSymbol = UInt64(firstSymbol)
            self.buckets = buckets
            self.hashes = hashes
        }
    }

    private func inGNU(_ table: ELFBytes, _ name: StaticString) -> ELFSymbol? {
        let hash = name.withUTF8Buffer { $0.reduce(UInt32(5381)) { $0 &* 33 &+ UInt32($1) } }
        guard let gnu = GNU(table), let start: UInt32 = gnu.buckets.integer(element: UInt64(hash) % gnu.bucketCount)
        else { return nil }
        var index = UInt64(start)
        // The last hash of a bucket has its lowest bit set. A bucket without such a hash ends with the file.
        while index >= gnu.firstSymbol,
            let other: UInt32 = gnu.hashes.integer(element: index - gnu.firstSymbol)
        {
            if other | 1 == hash | 1, let symbol = symbol(index, named: name) { return symbol }
            if other & 1 == 1 { return nil }
            index += 1
        }
        return nil
    }

    // MARK: DT_HASH: two numbers, the first symbol of each bucket, the next of each symbol

    private func inSystemV(_ table: ELFBytes, _ name: StaticString) -> ELFSymbol? {
        let hash = name.withUTF8Buffer { bytes in
            bytes.reduce(UInt32(0)) { hash, byte in
                let shifted = (hash << 4) &+ UInt32(byte)
                return (shifted ^ (shifted & 0xF000_0000) >> 24) & 0x0FFF_FFFF
            }
        }
        guard let bucketCount: UInt32 = table.integer(at: 0), bucketCount > 0,
            let symbolCount: UInt32 = table.integer(at: 4),
            var index: UInt32 = table.integer(element: UInt64(2 + UInt64(hash % bucketCount)))
        else { return nil }
        // The limit ends a damaged chain that forms a cycle. A valid chain is not longer than the number of symbols.
        for _ in 0..<min(UInt64(symbolCount), Self.maximumCount) {
            if index == 0 { return nil }
            if let symbol = symbol(UInt64(index), named: name) { return symbol }
            guard let next: UInt32 = table.integer(element: 2 + UInt64(bucketCount) + UInt64(index)) else { return nil }
            index = next
        }
        return nil
    }

    /// Number of symbols. Only the hash tables state it.
    private var count: UInt64 {
        if let systemVHash { return systemVHash.integer(at: 4, as: UInt32.self).map(UInt64.init) ?? 0 }
        guard let gnuHash, let gnu = GNU(gnuHash) else { return 0 }
        var last: UInt64 = 0
        for index in 0..<min(gnu.bucketCount, Self.maximumCount) {
            guard let start: UInt32 = gnu.buckets.integer(element: index) else { break }
            last = max(last, UInt64(start))
        }
        guard last >= gnu.firstSymbol else { return gnu.firstSymbol }
        while last < Self.maximumCount, let hash: UInt32 = gnu.hashes.integer(element: last - gnu.firstSymbol) {
            last += 1
            if hash & 1 == 1 { break }
        }
        return last
    }
}
