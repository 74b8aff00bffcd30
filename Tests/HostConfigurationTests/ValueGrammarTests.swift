import HostConfiguration
import Testing

@Suite struct ValueGrammarTests {
    @Test(arguments: [
        ("0", Duration.zero), ("0s", .zero), ("250ms", .milliseconds(250)), ("30s", .seconds(30)),
        ("5m", .seconds(300)), ("1h", .seconds(3_600)), ("1h30m", .seconds(5_400)), ("90m", .seconds(5_400)),
        ("1m1ms", .milliseconds(60_001)), ("7us", .microseconds(7)), ("7ns", .nanoseconds(7)),
        ("2h3m4s5ms6us7ns", .nanoseconds(7_384_005_006_007)), ("007s", .seconds(7)),
        ("9223372036854775807ns", .nanoseconds(Int64.max)), ("2562047h", .seconds(2_562_047 * 3_600)),
    ])
    func `a duration is parsed`(text: String, duration: Duration) throws {
        #expect(try ValueGrammar.duration(text) == duration)
    }

    @Test(arguments: [
        ("", "'' does not begin with a number"),
        ("s", "'s' does not begin with a number"),
        ("-1s", "'-1s' is negative"),
        ("+1s", "'+1s' does not begin with a number"),
        (" 1s", "' 1s' has spaces in it (no spaces: write 1s)"),
        ("٣s", "'٣s' does not begin with a number"),
        ("30", "'30' has no unit (h, m, s, ms, us or ns)"),
        ("00", "'00' has no unit (h, m, s, ms, us or ns)"),
        ("1h30", "'1h30' has no unit (h, m, s, ms, us or ns)"),
        ("30 s", "'30 s' has spaces in it (no spaces: write 30s)"),
        ("1.5s", "'1.5s' has a fraction (whole numbers only: write 1s500ms)"),
        ("0.25h", "'0.25h' has a fraction (whole numbers only: write 15m)"),
        ("1d", "'1d' has the unknown unit 'd' (write 24h)"),
        ("30S", "'30S' has the unknown unit 'S' (known: h, m, s, ms, us, ns)"),
        ("30m1h", "the units in '30m1h' do not go from long to short, each once"),
        ("1s1s", "the units in '1s1s' do not go from long to short, each once"),
        ("9223372036854775808ns", "'9223372036854775808ns' is more than 292 years"),
        ("9223372036s854775808ns", "'9223372036s854775808ns' is more than 292 years"),
        ("2562048h", "'2562048h' is more than 292 years"),
        ("18446744073709551616ns", "'18446744073709551616ns' is more than 292 years"),
    ])
    func `an invalid duration is refused with the reason`(text: String, message: String) {
        #expect(throws: ValueGrammar.Problem(message)) { try ValueGrammar.duration(text) }
    }

    @Test(arguments: [
        ("0", 0), ("512", 512), ("512B", 512), ("64KiB", 65_536), ("100MiB", 104_857_600), ("1GiB", 1_073_741_824),
        ("2TiB", 2_199_023_255_552), ("64kB", 64_000), ("3MB", 3_000_000), ("1GB", 1_000_000_000),
        ("2TB", 2_000_000_000_000), ("18446744073709551615", UInt64.max), ("16777215TiB", 16_777_215 << 40),
    ])
    func `a size is parsed`(text: String, bytes: UInt64) throws {
        #expect(try ValueGrammar.size(text) == bytes)
    }

    @Test(arguments: [
        ("", "'' does not begin with a number"),
        ("-1", "'-1' does not begin with a number"),
        ("KiB", "'KiB' does not begin with a number"),
        ("64KB", "'64KB' has an unknown unit; did you mean 64KiB (65536) or 64kB (64000)?"),
        ("64k", "'64k' has an unknown unit; did you mean 64KiB (65536) or 64kB (64000)?"),
        ("64 KiB", "'64 KiB' has spaces in it (no spaces: write 64KiB)"),
        ("1.5MiB", "'1.5MiB' has an unknown unit (known: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"),
        ("1MiB2", "'1MiB2' has an unknown unit (known: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"),
        ("18446744073709551616", "'18446744073709551616' is more than 2^64 - 1 bytes"),
        ("16777216TiB", "'16777216TiB' is more than 2^64 - 1 bytes"),
    ])
    func `an invalid size is refused with the reason`(text: String, message: String) {
        #expect(throws: ValueGrammar.Problem(message)) { try ValueGrammar.size(text) }
    }

    @Test(arguments: ["0", "1B", "1023B", "64KiB", "65MiB", "1GiB", "1024TiB", "64kB", "3MB", "2TB"])
    func `a size is printed in the form in which it is parsed`(text: String) throws {
        #expect(ValueGrammar.text(bytes: try ValueGrammar.size(text)) == text)
    }

    @Test(arguments: ["0", "1ns", "250ms", "30s", "1m30s", "1h1ms", "2562047h47m16s854ms775us807ns"])
    func `a duration is printed in the form in which it is parsed`(text: String) throws {
        #expect(ValueGrammar.text(try ValueGrammar.duration(text)) == text)
    }
}
