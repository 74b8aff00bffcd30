import ChanservCLI
import Testing

@Suite struct PostProgressTests {
    @Test func `the progress line has sources, frames, bytes and rate`() {
        let progress = PostProgress(announced: 5, done: 2, failed: 0, frames: 1_234, bytes: 1_536)
        #expect(
            progress.line(rate: 2_097_152, width: 120)
                == "sources: 3 open, 2 done  frames: 1234  bytes: 1.5 KiB  rate: 2 MiB/s")
    }

    @Test func `the progress line shows failures only if there are any`() {
        let progress = PostProgress(announced: 2, done: 2, failed: 1, frames: 0, bytes: 0)
        #expect(progress.line(rate: 0, width: 120).hasPrefix("sources: 0 open, 2 done (1 failed)  frames"))
    }

    @Test(arguments: [0, 1, 20]) func `the progress line fits the width of the terminal`(width: Int) {
        #expect(PostProgress().line(rate: 0, width: width).count == max(0, width - 1))
    }

    @Test(arguments: [
        (0, "0 B"), (1_023, "1023 B"), (1_024, "1 KiB"), (1_536, "1.5 KiB"), (1_048_575, "1 MiB"), (1_048_576, "1 MiB"),
        (104_857_600, "100 MiB"), (5_368_709_120, "5 GiB"), (1_099_511_627_776, "1 TiB"),
    ]) func `byte counts are human-readable`(count: Int, text: String) {
        #expect(ByteCount(count).description == text)
    }

    @Test func `the rate covers the last two seconds`() {
        var meter = RateMeter()
        #expect(meter.rate(at: .zero, bytes: 0) == 0)
        #expect(meter.rate(at: .seconds(1), bytes: 100) == 100)
        #expect(meter.rate(at: .seconds(2), bytes: 200) == 100)
        // No more bytes arrive; two seconds later the rate is 0.
        #expect(meter.rate(at: .seconds(3), bytes: 200) == 50)
        #expect(meter.rate(at: .seconds(4), bytes: 200) == 0)
    }
}
