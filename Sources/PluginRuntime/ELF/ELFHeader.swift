/// Header of an ELF file: its type, its machine, and the location of its tables.
package struct ELFHeader: Hashable, Sendable {
    /// Location of a table in the file, the size of an entry and the number of entries, as the header states them.
    package struct Table: Hashable, Sendable {
        package var offset: UInt64
        package var entrySize: UInt64
        package var count: UInt64
    }

    /// Program headers, which the linker reads.
    package var programHeaders: Table
    /// Section headers, which tools read. A stripped file may have none.
    package var sectionHeaders: Table

    private static let size: UInt64 = 64

    /// Reads the header of a shared library for this machine.
    package init(_ file: ELFBytes) throws(ELFProblem) {
        guard file.hasPrefix("\u{7F}ELF", at: 0) else {
            throw .notALibrary(file.count == 0 ? "it is empty" : "it is not an ELF file")
        }
        guard file.count >= Self.size,
            let format: UInt8 = file.integer(at: 4), let order: UInt8 = file.integer(at: 5),
            let type: UInt16 = file.integer(at: 16), let machine: UInt16 = file.integer(at: 18),
            let programOffset: UInt64 = file.integer(at: 32), let sectionOffset: UInt64 = file.integer(at: 40),
            let programSize: UInt16 = file.integer(at: 54), let programCount: UInt16 = file.integer(at: 56),
            let sectionSize: UInt16 = file.integer(at: 58), let sectionCount: UInt16 = file.integer(at: 60)
        else { throw .truncated }
        guard format == 2, order == 1 else { throw .notALibrary("it is not a 64-bit little-endian ELF file") }
        guard type == 3 else {
            let kind =
                switch type {
                case 1: "an object file (.o); link it with -shared"
                case 2: "an executable; link it with -shared -fPIC"
                case 4: "a core dump"
                default: "an ELF file of type \(type)"
                }
            throw .notALibrary("it is \(kind)")
        }
        guard machine == Self.thisMachine.code else {
            throw .notALibrary("it is for \(Self.name(ofMachine: machine)), this host runs on \(Self.thisMachine.name)")
        }
        programHeaders = Table(
            offset: programOffset, entrySize: UInt64(programSize), count: UInt64(programCount))
        sectionHeaders = Table(
            offset: sectionOffset, entrySize: UInt64(sectionSize), count: UInt64(sectionCount))
    }

    #if arch(x86_64)
        private static let thisMachine: (code: UInt16, name: String) = (62, "x86-64")
    #elseif arch(arm64)
        private static let thisMachine: (code: UInt16, name: String) = (183, "AArch64")
    #else
        #error("the ELF machine number of this architecture is not known; add it here")
    #endif

    private static func name(ofMachine code: UInt16) -> String {
        switch code {
        case 3: "x86 (32 bit)"
        case 40: "ARM (32 bit)"
        case 62: "x86-64"
        case 183: "AArch64"
        case 243: "RISC-V"
        default: "machine \(code)"
        }
    }
}
