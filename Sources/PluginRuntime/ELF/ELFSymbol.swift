/// Entry of a symbol table.
package struct ELFSymbol: Hashable, Sendable {
    /// Offset of the name in the string table.
    package var name: UInt64
    /// Offset of the entry in the file.
    package let position: Int
    private var info: UInt8
    private var other: UInt8
    private var section: UInt16

    package static let size: UInt64 = 24

    package init?(_ table: ELFBytes, at index: UInt64) {
        let (offset, overflow) = index.multipliedReportingOverflow(by: Self.size)
        guard !overflow, let entry = table.slice(at: offset, size: Self.size),
            let name: UInt32 = entry.integer(at: 0), let info: UInt8 = entry.integer(at: 4),
            let other: UInt8 = entry.integer(at: 5), let section: UInt16 = entry.integer(at: 6)
        else { return nil }
        self.name = UInt64(name)
        position = entry.start
        self.info = info
        self.other = other
        self.section = section
    }

    /// Whether the file defines the symbol and does not only use it.
    package var isDefined: Bool { section != 0 }
    /// Whether other libraries can see the symbol: it is global, weak or unique, and neither hidden nor internal.
    package var isVisible: Bool { [1, 2, 10].contains(info >> 4) && [0, 3].contains(other & 3) }
    /// Whether the process has a single copy of the symbol, however the library was loaded (`STB_GNU_UNIQUE`).
    package var isUnique: Bool { info >> 4 == 10 }
    /// Whether the symbol is neither weak nor unique.
    package var isStrong: Bool { info >> 4 == 1 }
    /// Whether the symbol is a variable (`STT_OBJECT`, `STT_COMMON` or `STT_TLS`).
    package var isVariable: Bool { [1, 5, 6].contains(info & 15) }
    /// Whether the symbol can be called: a function, an indirect function, or a symbol without a type (from assembler).
    package var isFunction: Bool { [2, 10, 0].contains(info & 15) }

    /// Makes the symbol an ordinary global one (`STB_GLOBAL`) in the bytes of its file.
    package func makeGlobal(in file: inout [UInt8]) { file[position + 4] = 1 << 4 | info & 15 }

    /// Binds the uses of the symbol by the library to its own definition (`STV_PROTECTED`) in the bytes of its file.
    package func bindOwnUses(in file: inout [UInt8]) { file[position + 5] = other | 3 }
}
