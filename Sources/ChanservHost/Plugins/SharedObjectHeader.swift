/// The head of an ELF file, read as far as is needed to say whether the dynamic linker can be given it.
///
/// Checked before `dlopen` for the message's sake, and because mapping a library that ends too early kills the process
/// with SIGBUS at the first access past the end.
package enum SharedObjectHeader {
    /// Why a file is not loadable here.
    package enum Problem: Hashable {
        /// It is something else altogether: no ELF file, for another machine, an object file…
        case notALibrary(String)
        /// It ends before what it describes.
        case truncated
    }

    /// What is wrong with a whole file; `nil` when the dynamic linker can be given it.
    package static func problem(in file: UnsafeRawBufferPointer) -> Problem? {
        let headerSize = 64
        let programHeaderSize = 56
        guard file.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else {
            return .notALibrary(file.isEmpty ? "it is empty" : "it is no ELF file")
        }
        guard file.count >= headerSize else { return .truncated }
        guard file[4] == 2, file[5] == 1 else {
            return .notALibrary("it is not a 64-bit little-endian ELF file")
        }
        let type = file.littleEndian(at: 16, as: UInt16.self)
        guard type == 3 else {
            let kind =
                switch type {
                case 1: "an object file (.o); link it with -shared"
                case 2: "an executable; link it with -shared -fPIC"
                case 4: "a core dump"
                default: "an ELF file of type \(type)"
                }
            return .notALibrary("it is \(kind)")
        }
        let machine = file.littleEndian(at: 18, as: UInt16.self)
        guard machine == thisMachine.code else {
            return .notALibrary("it is for \(name(ofMachine: machine)), this host runs on \(thisMachine.name)")
        }

        // Each PT_LOAD segment must lie within the file. Overflow by subtraction: the numbers are the file's.
        let tableOffset = file.littleEndian(at: 32, as: UInt64.self)
        let entrySize = file.littleEndian(at: 54, as: UInt16.self)
        let entryCount = Int(file.littleEndian(at: 56, as: UInt16.self))
        let size = UInt64(file.count)
        guard entryCount > 0, entrySize == programHeaderSize else {
            return .notALibrary("it has no program headers")
        }
        guard tableOffset <= size, size - tableOffset >= UInt64(entryCount * programHeaderSize) else {
            return .truncated
        }
        for index in 0..<entryCount {
            let entry = Int(tableOffset) + index * programHeaderSize
            guard file.littleEndian(at: entry, as: UInt32.self) == 1 else { continue }
            let offset = file.littleEndian(at: entry + 8, as: UInt64.self)
            let sizeInFile = file.littleEndian(at: entry + 32, as: UInt64.self)
            guard offset <= size, size - offset >= sizeInFile else { return .truncated }
        }
        return nil
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

extension UnsafeRawBufferPointer {
    /// The caller has checked that the value lies within the buffer.
    fileprivate func littleEndian<T: FixedWidthInteger>(at offset: Int, as type: T.Type) -> T {
        T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}
