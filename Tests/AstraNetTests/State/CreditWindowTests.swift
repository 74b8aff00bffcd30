import AstraNet
import Testing

@Suite struct SendWindowTests {
    @Test func `a new send window allows 65,536 bytes`() {
        let window = SendWindow()
        #expect(window.available == 65_536)
        #expect(window.inFlight == 0)
    }

    @Test func `sent bytes are not available until their credit returns`() {
        var window = SendWindow()
        window.reserve(65_536)
        #expect(window.available == 0)
        #expect(window.release(1) == true)
        #expect(window.available == 1)
        #expect(window.release(65_535) == true)
        #expect(window == SendWindow())
    }

    @Test func `credit for bytes that were not sent is refused and changes nothing`() {
        var window = SendWindow()
        window.reserve(10)
        let before = window
        #expect(window.release(11) == false)
        #expect(window.release(.max) == false)
        #expect(window == before)
    }

    @Test func `a window smaller than the bytes in flight allows nothing until credit returns`() {
        var window = SendWindow()
        window.reserve(100)
        window.resize(to: 50)
        #expect(window.available == 0)
        #expect(window.release(50) == true)
        #expect(window.available == 0)
        #expect(window.release(1) == true)
        #expect(window.available == 1)
        window.resize(to: 0)
        #expect(window.available == 0)
        window.resize(to: .max)
        #expect(window.available == Int(UInt32.max) - 49)
        window.reserve(window.available)
        #expect(window.available == 0)
        #expect(window.inFlight == .max)
    }

    /// Explores every sequence of five steps, with steps that reach the limits.
    @Test func `no sequence of steps sends more than the window`() {
        enum Step: CaseIterable { case reserveOne, reserveAll, releaseOne, releaseAll, shrink, grow, close }
        func explore(_ window: SendWindow, depth: Int) {
            for step in Step.allCases {
                var next = window
                switch step {
                case .reserveOne:
                    if next.available > 0 { next.reserve(1) }
                case .reserveAll: next.reserve(next.available)
                case .releaseOne: #expect(next.release(1) == (window.inFlight > 0))
                case .releaseAll: #expect(next.release(window.inFlight) == true)
                case .shrink: next.resize(to: 2)
                case .grow: next.resize(to: 5)
                case .close: next.resize(to: 0)
                }
                let raised = next.inFlight > window.inFlight
                #expect(!raised || next.inFlight <= next.limit)
                #expect(next.available >= 0 && next.available <= Int(next.limit))
                #expect(next.available == max(0, Int(next.limit) - Int(next.inFlight)))
                if depth > 1 { explore(next, depth: depth - 1) }
            }
        }
        explore(SendWindow(), depth: 5)
    }
}

@Suite struct ReceiveWindowTests {
    @Test func `a new receive window accepts 65,536 bytes and not one more`() {
        var window = ReceiveWindow()
        #expect(window.receive(65_536) == true)
        let full = window
        #expect(window.receive(1) == false)
        #expect(window == full)
        #expect(window.receive(0) == true)
    }

    @Test func `taken bytes count against the window until their credit is returned`() {
        var window = ReceiveWindow()
        #expect(window.receive(65_536) == true)
        window.take(1_000)
        #expect(window.receive(1) == false, "the credit has not been returned yet")
        #expect(window.settle() == 1_000)
        #expect(window.settle() == 0)
        #expect(window.receive(1_001) == false)
        #expect(window.receive(1_000) == true)
        #expect(window.unread == 65_536)
    }

    @Test func `the largest byte count is refused without overflow`() {
        var window = ReceiveWindow()
        #expect(window.receive(Int.max) == false)
        #expect(window == ReceiveWindow())
    }

    @Test(arguments: [(0, false), (16_383, false), (16_384, true), (65_536, true)])
    func `credit of a quarter of the window is due at once`(taken: Int, isMuch: Bool) {
        var window = ReceiveWindow()
        #expect(window.receive(65_536) == true)
        window.take(taken)
        #expect(window.owesMuch == isMuch)
    }

    @Test func `the bytes in flight from the peer never exceed the window`() {
        func explore(_ window: ReceiveWindow, inFlight: Int, depth: Int) {
            guard depth > 0 else { return }
            for count in [0, 1, 20_000, 65_535, 65_536, 65_537] {
                var next = window
                let fits = inFlight + count <= 65_536
                #expect(next.receive(count) == fits)
                if fits { explore(next, inFlight: inFlight + count, depth: depth - 1) }
            }
            for count in Set([0, 1, Int(window.unread) / 2, Int(window.unread)]) where count <= window.unread {
                var next = window
                next.take(count)
                #expect(next.unread + next.owed == window.unread + window.owed)
                explore(next, inFlight: inFlight, depth: depth - 1)
            }
            var next = window
            let credit = next.settle()
            #expect(credit == window.owed)
            #expect(next.owed == 0)
            explore(next, inFlight: inFlight - Int(credit), depth: depth - 1)
        }
        explore(ReceiveWindow(), inFlight: 0, depth: 4)
    }
}
