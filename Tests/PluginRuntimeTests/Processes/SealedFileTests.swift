import Glibc
import PluginRuntime
import Testing

@Suite struct SealedFileTests {
    @Test(arguments: [0, 1, 100_000])
    func `a sealed file can be read repeatedly`(size: Int) throws {
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let file = try SealedFile(bytes, name: "test")
        for _ in 0..<2 { #expect(try SealedFile.contents(of: file.descriptor) == bytes) }
    }

    @Test func `a sealed file cannot be changed`() throws {
        let file = try SealedFile([1, 2, 3], name: "test")
        #expect(pwrite(file.descriptor, [9], 1, 0) == -1 && errno == EPERM)
        #expect(ftruncate(file.descriptor, 0) == -1 && errno == EPERM)
        #expect(ftruncate(file.descriptor, 10) == -1 && errno == EPERM)
        #expect(try SealedFile.contents(of: file.descriptor) == [1, 2, 3])
    }
}
