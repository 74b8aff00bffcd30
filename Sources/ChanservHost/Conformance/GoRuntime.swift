/// Go's runtime, which does things when its library is loaded that its author cannot help: it installs handlers of signals.
enum GoRuntime {
    /// What the linker of Go puts in front of what `go version` shows of a file, whatever names are hidden or stripped.
    private static let mark = Array("\u{20}Go buildinf:".utf8)

    static func isPart(of file: [UInt8]) -> Bool {
        file.withUnsafeBufferPointer { bytes in
            var start = 0
            // The byte before it, 0xFF, is rare.
            while start + mark.count < bytes.count {
                guard let found = bytes[start...].firstIndex(of: 0xFF) else { return false }
                if bytes[(found + 1)...].starts(with: mark) { return true }
                start = found + 1
            }
            return false
        }
    }
}
