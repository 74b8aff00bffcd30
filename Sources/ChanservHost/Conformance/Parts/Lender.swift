internal import Glibc
internal import NIOConcurrencyHelpers

/// Memory the host lends to a plugin, under a rule of the case's choice.
final class Lender: Sendable {
    enum Rule: Sendable {
        /// From malloc, freed at the end of the loan.
        case plain
        /// In pages of its own, which cannot be touched after the loan: who does dies by SIGSEGV.
        case revoked
        /// In pages of its own, and the bytes end where one begins that cannot be touched.
        case bounded
    }

    /// `@unchecked Sendable`: it is the lender's, and passed on as a whole.
    struct Loan: @unchecked Sendable {
        let start: UnsafeMutableRawPointer
        fileprivate let mapping: (start: UnsafeMutableRawPointer, size: Int)?
    }

    let rule: Rule

    init(_ rule: Rule) { self.rule = rule }

    /// Lends `size` bytes.
    ///
    /// - Parameters:
    ///   - isStruct: aligned for every type, at the cost of some bytes up to the end of the page.
    ///   - isExact: whatever the rule, the bytes end where a page begins that cannot be touched. Aligned as `size` is.
    func lend(_ size: Int, isStruct: Bool = false, isExact: Bool = false) -> Loan {
        guard rule != .plain || isExact else { return Loan(start: malloc(max(size, 1) + 16)!, mapping: nil) }
        let page = Int(getpagesize())
        let room = (max(size, 1) + 15 + page - 1) / page * page
        let mapping = mmap(nil, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapping, mapping != MAP_FAILED, mprotect(mapping + room, page, PROT_NONE) == 0 else {
            fatalError("no memory to lend: \(systemMessage(errno))")
        }
        let start = isExact || (rule == .bounded && !isStruct) ? mapping + (room - size) : mapping
        return Loan(start: start, mapping: (mapping, room))
    }

    /// Lends a copy of `bytes`.
    func lend(copying bytes: UnsafeRawBufferPointer) -> Loan {
        let loan = lend(bytes.count)
        loan.start.copyMemory(from: bytes, count: bytes.count)
        // What a plugin that expects a zero here finds in its place.
        if rule == .plain { loan.start.storeBytes(of: 0x3F, toByteOffset: bytes.count, as: UInt8.self) }
        return loan
    }

    /// The plugin may not touch it any more. Pages are kept until the process ends, so that no others come there.
    func end(_ loan: Loan) {
        guard let mapping = loan.mapping else { return free(loan.start) }
        switch rule {
        case .revoked: mprotect(mapping.start, mapping.size, PROT_NONE)
        case .plain: munmap(mapping.start, mapping.size + Int(getpagesize()))
        case .bounded: break
        }
    }
}

extension UnsafeMutableRawPointer {
    fileprivate func copyMemory(from bytes: UnsafeRawBufferPointer, count: Int) {
        if let source = bytes.baseAddress, count > 0 { copyMemory(from: source, byteCount: count) }
    }
}

/// Loans that end together.
final class Loans: Sendable {
    private let lender: Lender
    private let loans = NIOLockedValueBox<[Lender.Loan]>([])

    init(_ lender: Lender) { self.lender = lender }

    func add(_ loan: Lender.Loan) -> UnsafeMutableRawPointer {
        loans.withLockedValue { $0.append(loan) }
        return loan.start
    }

    func end() {
        for loan in loans.withLockedValue({ loans in
            defer { loans = [] }
            return loans
        }) { lender.end(loan) }
    }
}
