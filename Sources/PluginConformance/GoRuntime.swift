/// Detects Go's runtime, which installs signal handlers when its library is loaded. The plugin's author cannot prevent
/// this.
enum GoRuntime {
    /// The mark of the build information, which Go's linker writes into every binary, even a stripped one.
    private static let mark = Array("\u{20}Go buildinf:".utf8)

    static func isPart(of file: [UInt8]) -> Bool {
        file.withUnsafeBufferPointer { bytes in
            var start = 0
            // Searches for the byte 0xFF before the mark, because it is rare.
            while start + mark.count < bytes.count {
                guard let found = bytes[start...].firstIndex(of: 0xFF) else { return false }
                if bytes[(found + 1)...].starts(with: mark) { return true }
                start = found + 1
            }
            return false
        }
    }
}
