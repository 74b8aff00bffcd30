internal import Glibc
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// Memory that the host lends to a plugin. The rule decides where it is and what happens after the loan.
final class Lender: Sendable {
    enum Rule: Sendable {
        /// From malloc; freed at the end of the loan.
        case plain
        /// In separate pages, which become inaccessible after the loan. A later access raises SIGSEGV.
        case revoked
        /// In separate pages, directly before an inaccessible page.
        case bounded
    }

    /// `@unchecked Sendable`: the memory belongs to the lender and is passed on as a whole.
    struct Loan: @unchecked Sendable {
        let start: UnsafeMutableRawPointer
        fileprivate let mapping: (start: UnsafeMutableRawPointer, size: Int)?
    }

    let rule: Rule

    init(_ rule: Rule) { self.rule = rule }

    /// Lends `size` bytes.
    ///
    /// - Parameters:
    ///   - isStruct: whether to align the memory for every type. It then begins at the start of a page instead of
    ///     ending at the end of one.
    ///   - isExact: whether the bytes end directly before an inaccessible page under every rule. They are then aligned
    ///     only as `size` is.
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
        // A plugin that expects a zero behind the bytes finds this byte instead.
        if rule == .plain { loan.start.storeBytes(of: 0x3F, toByteOffset: bytes.count, as: UInt8.self) }
        return loan
    }

    /// Ends a loan: the plugin must not use the memory any more. Inaccessible pages are kept until the process ends, so
    /// that no other memory gets their addresses.
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
