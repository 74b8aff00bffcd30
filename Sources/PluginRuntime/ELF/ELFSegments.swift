/// Program headers of an ELF file: the parts that the linker maps, and their permissions.
package struct ELFSegments: Hashable, Sendable {
    /// Part of the file and its address in memory.
    package struct Piece: Hashable, Sendable {
        package var offset: UInt64
        package var address: UInt64
        package var size: UInt64
    }

    /// Requirement for the stacks of threads that run this code.
    package enum Stack: Hashable, Sendable {
        case notExecutable
        case executable
        /// The file has no declaration. The linker treats that as executable.
        case undeclared
    }

    /// Parts that are mapped. Each lies within the file.
    package private(set) var mapped: [Piece] = []
    /// Dynamic section. It lies within the file.
    package private(set) var dynamic: Piece?
    package private(set) var stack = Stack.undeclared

    package init(_ file: ELFBytes, _ table: ELFHeader.Table) throws(ELFProblem) {
        guard table.count > 0, table.entrySize == 56 else { throw .notALibrary("it has no program headers") }
        guard let headers = file.slice(at: table.offset, size: table.count * table.entrySize) else { throw .truncated }
        for index in 0..<table.count {
            let entry = index * table.entrySize
            guard let type: UInt32 = headers.integer(at: entry), let flags: UInt32 = headers.integer(at: entry + 4),
                let offset: UInt64 = headers.integer(at: entry + 8),
                let address: UInt64 = headers.integer(at: entry + 16),
                let size: UInt64 = headers.integer(at: entry + 32)
            else { throw .truncated }
            let piece = Piece(offset: offset, address: address, size: size)
            switch type {
            case 1:  // PT_LOAD
                guard file.slice(at: offset, size: size) != nil else { throw .truncated }
                mapped.append(piece)
            case 2:  // PT_DYNAMIC
                guard file.slice(at: offset, size: size) != nil else { throw .truncated }
                dynamic = piece
            case 0x6474_E551:  // PT_GNU_STACK
                stack = flags & 1 == 0 ? .notExecutable : .executable
            default:
                break
            }
        }
    }

    /// Returns the file offset of the byte that is mapped at `address`, and the number of bytes from there to the end
    /// of the part.
    package func piece(at address: UInt64) -> (offset: UInt64, size: UInt64)? {
        for piece in mapped where address >= piece.address && address - piece.address < piece.size {
            let distance = address - piece.address
            // The part lies within the file, so the sum cannot overflow.
            return (piece.offset + distance, piece.size - distance)
        }
        return nil
    }
}
