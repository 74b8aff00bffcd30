/// The symbols a linker left in the file for debuggers (`.symtab`), which also tell what is not exported.
package struct ELFSections: Sendable {
    private let symbols: ELFBytes
    private let strings: ELFBytes

    /// `nil` where the file was stripped of them, or where what it says of them is not so: nothing depends on it.
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
            // SHT_SYMTAB, with the index of its names.
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

    /// Whether something of this name is defined in the file, exported or not.
    package func defines(_ name: StaticString) -> Bool {
        for index in 0..<min(symbols.count / ELFSymbol.size, 1 << 20) {
            guard let symbol = ELFSymbol(symbols, at: index) else { return false }
            if symbol.isDefined, strings.hasText(name, at: symbol.name) { return true }
        }
        return false
    }
}
