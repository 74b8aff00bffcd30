/// Symbol table that the linker leaves for debuggers (`.symtab`). It also contains symbols that are not exported.
package struct ELFSections: Sendable {
    private let symbols: ELFBytes
    private let strings: ELFBytes

    /// `nil` if the file has no such table or if its description is invalid. The table serves only to explain errors.
    package init?(_ file: ELFBytes, _ table: ELFHeader.Table) {
        guard table.entrySize == 64, table.count > 0,
            let headers = file.slice(at: table.offset, size: table.count * table.entrySize)
        else { return nil }
        func bytes(ofSection index: UInt64) -> ELFBytes? {
            guard index < table.count, let offset: UInt64 = headers.integer(at: index * 64 + 24),
                let size: UInt64 = headers.integer(at: index * 64 + 32)
            else { return nil }
            return file.slice(at: offset, size: size)
        }
        for index in 0..<table.count {
            // SHT_SYMTAB. The entry has the index of the section with the names.
            guard headers.integer(at: index * 64 + 4, as: UInt32.self) == 2,
                let names: UInt32 = headers.integer(at: index * 64 + 40),
                let symbols = bytes(ofSection: index), let strings = bytes(ofSection: UInt64(names))
            else { continue }
            self.symbols = symbols
            self.strings = strings
            return
        }
        return nil
    }

    /// Whether the file defines a symbol of this name, exported or not.
    package func defines(_ name: StaticString) -> Bool {
        for index in 0..<min(symbols.count / ELFSymbol.size, 1 << 20) {
            guard let symbol = ELFSymbol(symbols, at: index) else { return false }
            if symbol.isDefined, strings.hasText(name, at: symbol.name) { return true }
        }
        return false
    }
}
