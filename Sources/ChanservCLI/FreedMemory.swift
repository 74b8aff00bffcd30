#if canImport(Glibc)
    import CMalloc
#endif

/// What becomes of memory that was freed.
enum FreedMemory {
    /// How many bytes stay with the process.
    private static let kept: CInt = 64 << 20

    /// Keeps freed memory for what is allocated next, up to 64 MiB of it, where the C library would hand large pieces back to
    /// the system at once: buffers of large frames come and go all the time, and fetching their pages anew, one fault each,
    /// takes as long as all else that is done with them.
    static func keep() {
        #if canImport(Glibc)
            // Both answer 1 when they were understood; where not, it is only slower.
            _ = mallopt(M_MMAP_THRESHOLD, kept)
            _ = mallopt(M_TRIM_THRESHOLD, kept)
        #endif
    }
}
