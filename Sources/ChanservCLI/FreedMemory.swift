#if canImport(Glibc)
    import CMalloc
#endif

/// The C library's policy for freed memory.
enum FreedMemory {
    /// Maximum amount of freed memory that the process keeps, in bytes.
    private static let retainedBytes: CInt = 64 << 20

    /// Makes malloc keep up to 64 MiB of freed memory for later allocations.
    ///
    /// By default glibc returns large freed blocks to the kernel at once. Buffers of large frames are allocated and
    /// freed all the time, and one page fault per page costs as much as all other work on them.
    static func keep() {
        #if canImport(Glibc)
            // mallopt returns 1 on success. A failure only costs speed, so the result is ignored.
            _ = mallopt(M_MMAP_THRESHOLD, retainedBytes)
            _ = mallopt(M_TRIM_THRESHOLD, retainedBytes)
        #endif
    }
}
