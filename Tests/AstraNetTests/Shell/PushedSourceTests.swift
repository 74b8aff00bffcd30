import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// Pushed sources between two nodes with a direct link (docs/protocol.md §6).
@Suite(.timeLimit(.minutes(5))) struct PushedSourceTests {
    // MARK: - A request

    @Test func `a small answer is available when the dial returns`() async throws {
        let server = Node.withoutTimeouts(.server)
        let client = Node.withoutTimeouts(.client)
        let answering = ChangeHandler { request in
            guard case .bytes(let body) = request.takeReceived(), case .opened(let source) = request.pushSource() else {
                return
            }
            do {
                try source.send(now: body)
            } catch {
                Issue.record(error)
            }
            source.close()
            request.close()
        }
        let listener = try server.bind("push", answersSoon: true) { request in
            request.setDelegate(answering)
            return .accepted
        }
        try await client.join(try await server.listening())
        for _ in 0..<20 {
            let request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: 4)
            let master = try await client.dial("push", request, deadline: .testDeadline)
            // None of these calls suspends.
            guard case .pushed(let source) = master.takeMasterEvent(), case .bytes(let bytes) = source.takeReceived(),
                case .finished = source.takeReceived(), case .finished = master.takeMasterEvent()
            else {
                Issue.record("a part of the answer has not arrived")
                break
            }
            #expect(String(buffer: bytes) == "body")
            master.close()
        }
        try await client.expectNothingLeft()
        try await server.expectNothingLeft()
        listener.close()
        await client.shutdown()
        await server.shutdown()
    }

    @Test func `sources arrive in the order in which they were pushed, before the end of the request`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(3)
        let next = NIOLockedValueBox(0)
        let pushing = ChangeHandler { request in
            while next.withLockedValue({ $0 }) < 50, case .opened(let source) = request.pushSource() {
                let index = next.withLockedValue { index in
                    defer { index += 1 }
                    return index
                }
                do {
                    try source.send(now: ByteBuffer(string: "\(index)"))
                } catch {
                    Issue.record(error)
                }
                source.close()
            }
            if next.withLockedValue({ $0 }) == 50 { request.close() }
        }
        server.setDelegate(pushing)
        server.callDelegateSoon()
        var received: [String] = []
        while case .pushed(let source) = try await client.nextMasterEvent(deadline: .testDeadline) {
            received.append(try await source.readText())
        }
        #expect(received == (0..<50).map { "\($0)" })
        client.close()
        try await pair.end()
    }

    @Test(arguments: [false, true])
    func `the end of a request does not overtake its sources`(fails: Bool) async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let calls = NIOLockedValueBox(0)
        server.setDelegate(
            ChangeHandler { request in
                let count = calls.withLockedValue { calls in
                    calls += 1
                    return calls
                }
                do {
                    if count == 1 {
                        // Marks the request as having bytes to send, so that the flush that called the delegate takes
                        // it, and asks for another call.
                        if request.withStorage({ $0.markDirty() }) { request.link.markDirty(request) }
                        request.callDelegateSoon()
                    } else if count == 2 {
                        for text in ["one", "two"] { try request.pushWhole(text) }
                        if fails { request.fail("over") } else { request.close() }
                    }
                } catch {
                    Issue.record(error)
                }
            })
        server.callDelegateSoon()
        for text in ["one", "two"] { #expect(try await client.nextPushed().readText() == text) }
        #expect(try await client.newsFailure()?.message == (fails ? "over" : nil))
        client.close()
        try await pair.end()
    }

    @Test func `a request can be answered by bytes instead`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        try server.send(now: ByteBuffer(string: "a name"))
        server.close()
        guard case .bytes(let bytes) = try await client.nextMasterEvent(deadline: .testDeadline) else {
            Issue.record("no bytes arrived")
            return
        }
        #expect(String(buffer: bytes) == "a name")
        try await client.expectFinished()
        client.close()
        try await pair.end()
    }

    @Test func `the server can push sources while the body of the request arrives`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(body: "body")
        try server.pushWhole("early")
        #expect(try await client.nextPushed().readText() == "early")
        client.finish()
        #expect(try await server.readText() == "body")
        try server.pushWhole("late")
        server.close()
        #expect(try await client.nextPushed().readText() == "late")
        try await client.expectFinished()
        client.close()
        try await pair.end()
    }

    @Test func `deadline and tags reach the server`() async throws {
        let pair = try await PushPair()
        var request = DialRequest(maximumPushedSources: 2)
        request.texts = .of(meta: "m", bucket: "b", traceParent: "t")
        request.deadline = .now + .seconds(60)
        let dialled = try await pair.client.dial("push", request, deadline: .testDeadline)
        let served = try #require(await pair.requests.next())
        let block = try #require(served.takeDial()?.block)
        #expect(block.meta == "m" && block.bucket == "b" && block.traceParent == "t")
        let left = try #require(block.deadlineMilliseconds)
        #expect(left > 0 && left <= 60_000)
        #expect(block.push?.maximumSources == 2 && block.push?.window == 16_384)
        #expect(served.pushWindow == 16_384)
        #expect(served.takeDial()?.block == nil, "the dial block can be taken once")
        dialled.close()
        served.close()
        // A deadline in the past is sent as 0 ms.
        request.deadline = .now - .seconds(1)
        let late = try await pair.client.dial("push", request, deadline: .testDeadline)
        let lateServed = try #require(await pair.requests.next())
        #expect(lateServed.takeDial()?.block.deadlineMilliseconds == 0)
        late.close()
        lateServed.close()
        try await pair.end()
    }

    @Test func `the dialer's stream does not keep the tags that it sent`() async throws {
        let pair = try await PushPair()
        var request = DialRequest()
        request.texts = .of(meta: "m")
        let dialled = try await pair.client.dial("push", request, deadline: .testDeadline)
        #expect(dialled.takeDial()?.block == nil)
        #expect(dialled.withStorage { $0.active == nil })
        let served = try #require(await pair.requests.next())
        #expect(served.takeDial()?.block == DialBlock(meta: "m"))
        dialled.close()
        served.close()
        try await pair.end()
    }

    @Test func `a block that is too large fails the dial`() async throws {
        let pair = try await PushPair()
        try await eventually { pair.client.services.count == 1 }
        // Maximum text without the version and the header of the tag. Grant, cookie and deadline need 35 bytes more.
        let room = DialBlock.maximumSize - 4
        for (size, fits) in [(room - 35, true), (room - 34, false), (room, false), (70_000, false)] {
            var request = DialRequest(deadline: .testDeadline, maximumPushedSources: 2)
            request.texts = .of(meta: String(repeating: "m", count: size))
            do {
                guard let stream = try pair.client.dialNow("push", request, delegate: nil) else {
                    Issue.record("the service is not offered")
                    break
                }
                #expect(fits, "\(size) bytes")
                let served = try #require(await pair.requests.next())
                #expect(served.takeDial()?.block.meta?.utf8.count == size)
                #expect(served.pushWindow != nil)
                stream.close()
                served.close()
            } catch let error as AstraNetError {
                #expect(!fits && error.code == .limitReached, "\(size) bytes: \(error)")
            }
        }
        var plain = DialRequest()
        plain.texts = .of(meta: String(repeating: "m", count: room + 1))
        let error = await #expect(throws: AstraNetError.self) {
            try await pair.client.dial("push", plain, deadline: .testDeadline)
        }
        #expect(error?.code == .limitReached)
        try await pair.end()
    }

    // MARK: - Limits

    @Test func `a server pauses at the granted number of sources and continues when one is accepted`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(2)
        let recorder = ChangeRecorder()
        server.setDelegate(recorder)
        for text in ["one", "two"] { try server.pushWhole(text) }
        for _ in 0..<3 {
            guard case .grantExhausted = server.pushSource() else {
                Issue.record("the server pushed more than two sources")
                break
            }
        }
        for (text, more) in [("one", "three"), ("two", "four")] {
            #expect(try await client.nextPushed().readText() == text)
            let source = try await server.pushed(waitingFor: recorder)
            try source.send(now: ByteBuffer(string: more))
            source.close()
        }
        for text in ["three", "four"] { #expect(try await client.nextPushed().readText() == text) }
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a source sends the granted window before its acceptance, and the rest afterwards`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let source = try server.pushed()
        let sent = ByteBuffer(bytes: (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) })
        try source.send(now: sent)
        source.close()
        // Waits until everything within the grant has arrived.
        try server.pushWhole("behind")
        try await eventually { source.inFlight == 16_384 }
        let held = pair.client.links[0].buffered
        try await eventually { held.held == 16_384 + 6 }
        #expect(source.isUnaccepted && source.inFlight == 16_384)
        let taken = try await client.nextPushed()
        #expect(try await taken.readAll() == sent)
        #expect(try await client.nextPushed().readText() == "behind")
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a source that is not read holds back only itself`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let (large, other) = (try server.pushed(), try server.pushed())
        let bytes = ByteBuffer(repeating: 7, count: 1_000_000)
        try large.send(now: bytes)
        large.close()
        let unread = try await client.nextPushed()
        let read = try await client.nextPushed()
        for count in [1, 65_536, 500_000] {
            try other.send(now: ByteBuffer(repeating: 1, count: count))
            var received = ByteBuffer()
            #expect(try await read.receive(count, into: &received, deadline: .testDeadline) == count)
        }
        #expect(large.inFlight == 65_536)
        other.close()
        #expect(try await read.readText() == "")
        #expect(try await unread.readAll() == bytes)
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a failed source counts against the grant until it is accepted`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(2)
        let recorder = ChangeRecorder()
        server.setDelegate(recorder)
        for index in 0..<20 {
            if index >= 2 {
                guard case .grantExhausted = server.pushSource() else {
                    Issue.record("a failed source does not count against the grant")
                    break
                }
                let source = try await client.nextPushed()
                #expect(try await source.receive(deadline: .testDeadline) == ByteBuffer(string: "\(index - 2)"))
                #expect(await source.failure()?.message == "broken \(index - 2)")
            }
            let source = try await server.pushed(waitingFor: recorder)
            try source.send(now: ByteBuffer(string: "\(index)"))
            source.fail("broken \(index)")
        }
        server.close()
        // The last two are still available.
        for _ in 0..<2 { #expect(try await client.nextPushed().failure()?.code == .failedByPeer) }
        try await client.expectFinished()
        client.close()
        try await pair.end()
    }

    @Test func `an aborted source counts against the grant until it is accepted`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(1)
        let recorder = ChangeRecorder()
        server.setDelegate(recorder)
        let source = try server.pushed()
        try source.send(now: ByteBuffer(repeating: 7, count: 100_000))
        source.close()
        try await eventually { source.inFlight == 16_384 }
        source.abort("too slow")
        try await eventually { source.withStorage { $0.state.isKept } }
        guard case .grantExhausted = server.pushSource() else {
            Issue.record("the client counts it, too")
            return
        }
        let taken = try await client.nextPushed()
        #expect(await taken.failure()?.message == "too slow")
        let next = try await server.pushed(waitingFor: recorder)
        #expect(source.phase == .ended && !source.isUnaccepted)
        try next.send(now: ByteBuffer(string: "next"))
        next.close()
        #expect(try await client.nextPushed().readText() == "next")
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a request ends when the server aborts all sources before the client accepts one`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(2)
        let recorder = ChangeRecorder()
        server.setDelegate(recorder)
        let sources = [try server.pushed(), try server.pushed()]
        for source in sources {
            source.close()
            try await eventually { source.withStorage { $0.state.isKept } }
            guard case .grantExhausted = server.pushSource() else {
                Issue.record("the client counts it, too")
                return
            }
            source.abort("not taken in time")
            try await eventually { source.phase == .ended }
            #expect(!source.isUnaccepted)
        }
        // The delegate is called although the grant never gets a free place.
        var result = server.pushSource()
        while case .grantExhausted = result {
            _ = await recorder.changes.next()
            result = server.pushSource()
        }
        guard case .ended = result else {
            Issue.record("\(result)")
            return
        }
        server.fail("not taken in time")
        // The sources at the client are not affected.
        for _ in 0..<2 { #expect(try await client.nextPushed().readText() == "") }
        #expect(try await client.newsFailure()?.message == "not taken in time")
        client.close()
        try await pair.end()
    }

    @Test func `a failed source is kept for at most the linger timeout`() async throws {
        let pair = try await PushPair(server: { $0.lingerTimeout = .milliseconds(1) })
        let (client, server) = try await pair.request(2)
        let failed = try server.pushed()
        try failed.send(now: ByteBuffer(string: "some"))
        failed.fail("broken")
        try await eventually { failed.phase == .ended }
        // The bytes before the failure are not affected.
        let source = try await client.nextPushed()
        #expect(try await source.receive(deadline: .testDeadline) == ByteBuffer(string: "some"))
        #expect(await source.failure()?.message == "broken")
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a shutdown does not wait for kept sources`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(2)
        try server.pushWhole("whole")
        server.close()
        try await eventually { server.phase == .ended }
        await pair.server.shutdown(grace: .seconds(3_600))
        #expect(try await client.nextPushed().readText() == "whole")
        try await client.expectFinished()
        client.close()
        await pair.client.shutdown()
    }

    @Test func `a request without a grant has no pushed sources`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(0)
        guard case .notGranted = server.pushSource() else {
            Issue.record("it was pushed")
            return
        }
        #expect(server.pushWindow == nil)
        server.close()
        guard case .ended = server.pushSource() else {
            Issue.record("it was pushed")
            return
        }
        try await client.expectFinished()
        client.close()
        try await pair.end()
    }

    @Test func `a grant shrinks as the budget of the link fills, and ends when it is used up`() async throws {
        let pair = try await PushPair(client: { $0.maximumBufferedPerLink = 1 << 20 })
        // A quarter of the budget without its reserved eighth: 14 sources of 16 KiB, one for each request.
        let grants = pair.client.links[0].pushGrants
        var masters: [AstraNet.MeshStream] = []
        for index in 0..<16 {
            let (client, server) = try await pair.request(100)
            #expect((server.pushWindow != nil) == (index < 14))
            #expect(server.pushAll().count == (index < 14 ? 1 : 0))
            #expect(grants.held == min(index + 1, 14) * 16_384)
            server.close()
            masters.append(client)
        }
        for client in masters { client.close() }
        let (client, server) = try await pair.request(1)
        #expect(server.pushWindow == 16_384)
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a grant is released when the server has ended the request and its sources are accepted`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(2)
        let grants = pair.client.links[0].pushGrants
        #expect(grants.held == 2 * 16_384)
        try server.pushWhole("one")
        server.close()
        try await eventually { client.phase == .ended }
        client.releaseGrant()
        #expect(grants.held == 2 * 16_384, "a source is not accepted yet")
        let source = try await client.nextPushed()
        client.releaseGrant()
        client.releaseGrant()
        #expect(grants.held == 0)
        #expect(try await source.readText() == "one")
        try await client.expectFinished()
        client.close()
        try await pair.end()
    }

    @Test func `a source waits for a place on the link and is pushed when there is one`() async throws {
        let pair = try await PushPair(server: { $0.maximumStreamsPerLink = 3 })
        let (client, server) = try await pair.request()
        let (otherClient, otherServer) = try await pair.request(0)
        let recorder = ChangeRecorder()
        server.setDelegate(recorder)
        try server.pushWhole("one")
        guard case .grantExhausted = server.pushSource() else {
            Issue.record("the link has a place for another stream")
            return
        }
        otherClient.close()
        otherServer.close()
        let source = try await server.pushed(waitingFor: recorder)
        try source.send(now: ByteBuffer(string: "two"))
        source.close()
        server.close()
        #expect(try await client.nextPushed().readText() == "one")
        #expect(try await client.nextPushed().readText() == "two", "waiting does not change the order")
        try await client.expectFinished()
        client.close()
        try await pair.end()
    }

    @Test func `a client without a place for a stream refuses the source and nothing else`() async throws {
        let pair = try await PushPair(client: { $0.maximumStreamsPerLink = 2 })
        let (client, server) = try await pair.request()
        let taken = try server.pushed()
        let source = try await client.nextPushed()
        let refused = try server.pushed()
        #expect(await refused.failure()?.code == .failedByPeer)
        try taken.send(now: ByteBuffer(string: "whole"))
        taken.close()
        #expect(try await source.readText() == "whole")
        try await eventually { pair.client.links[0].reservedStreamSlots == 1 }
        try server.pushWhole("next")
        #expect(try await client.nextPushed().readText() == "next")
        client.close()
        server.close()
        try await pair.end()
    }

    // MARK: - Ends

    @Test func `cancelling the request ends its offered sources, and accepted sources continue`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let (taken, offered, whole) = (try server.pushed(), try server.pushed(), try server.pushed())
        try whole.send(now: ByteBuffer(string: "whole"))
        whole.close()
        let failed = try server.pushed()
        failed.fail("broken")
        try offered.send(now: ByteBuffer(repeating: 7, count: 100_000))
        let source = try await client.nextPushed()
        // Waits until all sources have arrived.
        try await eventually { pair.client.links[0].reservedStreamSlots == 3 }
        client.close()
        for stream in [offered, whole, failed, server] {
            try await eventually { stream.phase == .ended }
            #expect(!stream.isUnaccepted && !stream.withStorage { $0.state.wasAccepted })
        }
        #expect(offered.isPeerClosed)
        guard case .ended = server.pushSource() else {
            Issue.record("the request has not ended")
            return
        }
        try taken.send(now: ByteBuffer(repeating: 1, count: 300_000))
        taken.close()
        #expect(try await source.readAll().readableBytes == 300_000)
        server.close()
        offered.close()
        try await pair.end()
    }

    @Test func `sources that are in flight when the request is cancelled end too`() async throws {
        let pair = try await PushPair()
        for index in 0..<50 {
            let (client, server) = try await pair.request(8)
            async let pushing = Task.detached { server.pushAll(limit: index % 9) }.value
            client.close()
            for source in await pushing {
                try await eventually { source.phase == .ended || source.isPeerClosed }
                source.close()
            }
            server.close()
        }
        try await pair.end()
    }

    @Test func `a source that arrives while another thread ends its request is declined`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let source = try server.pushed()
        let offered = try await client.nextPushed()
        client.close()
        // The event loop does this if it has seen the request open just before.
        let isOffered = client.withStorage { storage in storage.offer(offered) }
        #expect(isOffered == nil)
        offered.close()
        source.close()
        server.close()
        try await pair.end()
    }

    @Test func `the loss of the link ends the request and all of its sources`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let (taken, offered) = (try server.pushed(), try server.pushed())
        try server.pushWhole("whole")
        try taken.send(now: ByteBuffer(string: "some"))
        let source = try await client.nextPushed()
        #expect(try await source.receive(deadline: .testDeadline) == ByteBuffer(string: "some"))
        try await eventually { pair.client.links[0].reservedStreamSlots == 3 }
        let link = pair.client.links[0]
        await pair.server.shutdown(grace: .zero)
        #expect(await source.failure()?.code == .linkLost)
        // Sources that have arrived can still be taken.
        #expect(try await client.nextPushed().failure()?.code == .linkLost)
        #expect(try await client.nextPushed().readText() == "whole")
        #expect(try await client.newsFailure()?.code == .linkLost)
        for stream in [server, taken, offered] {
            try await eventually { stream.phase == .ended }
            #expect(!stream.isUnaccepted)
        }
        client.close()
        #expect(link.pushGrants.held == 0)
        await pair.client.shutdown()
    }

    @Test func `a failure of the request by the client reaches the server`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let source = try server.pushed()
        try await eventually { pair.client.links[0].reservedStreamSlots == 2 }
        client.fail("no longer")
        #expect(await server.failure()?.message == "no longer")
        try await eventually { source.phase == .ended }
        try await pair.end()
    }

    @Test func `an accepted source that its reader closes ends at the server`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let source = try server.pushed()
        try source.send(now: ByteBuffer(repeating: 7, count: 500_000))
        let taken = try await client.nextPushed()
        #expect(try await taken.receive(deadline: .testDeadline) != nil)
        taken.close()
        try await eventually { source.phase == .ended }
        #expect(throws: AstraNetError.self) { try source.send(now: ByteBuffer(string: "more")) }
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a wait for news ends with its task`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let waiting = Task { try await client.nextMasterEvent(deadline: .testDeadline) }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        let error = await #expect(throws: AstraNetError.self) { try await client.nextMasterEvent(deadline: .now) }
        #expect(error?.code == .deadlineExceeded)
        // The request still works.
        try server.pushWhole("source")
        #expect(try await client.nextPushed().readText() == "source")
        client.close()
        server.close()
        try await pair.end()
    }

    // MARK: - Listeners

    @Test func `after a refusal by a listener the dial uses the next offer`() async throws {
        let (full, ready) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.server))
        let client = Node.withoutTimeouts(.client)
        let refused = NIOLockedValueBox(0)
        let accepted = EventQueue<AstraNet.MeshStream>()
        _ = try full.bind("push") { _ in
            refused.withLockedValue { $0 += 1 }
            return .refused("too many requests")
        }
        try await client.join(try await full.listening())
        let error = await #expect(throws: AstraNetError.self) {
            try await client.dial("push", DialRequest(maximumPushedSources: 2), deadline: .testDeadline)
        }
        #expect(error?.code == .refused)
        #expect(error?.message == "too many requests")
        let delegate = ChangeRecorder()
        let stream = try #require(
            try client.dialNow("push", DialRequest(first: ByteBuffer(string: "body")), delegate: delegate))
        _ = await delegate.changes.next()
        #expect(!stream.withStorage { $0.state.wasAccepted })
        guard case .failed(let failure) = stream.takeReceived() else {
            Issue.record("the listener accepted the stream")
            return
        }
        #expect(failure.code == .refused)
        stream.close()
        _ = try ready.bind("push") { stream in
            accepted.append(stream)
            return .accepted
        }
        try await client.join(try await ready.listening())
        try await eventually { client.services.count == 2 }
        for _ in 0..<10 {
            let request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: 2)
            let stream = try await client.dial("push", request, deadline: .testDeadline)
            let served = try #require(await accepted.next())
            try served.pushWhole("source")
            #expect(try await stream.nextPushed().readText() == "source")
            stream.close()
            served.close()
        }
        #expect(refused.withLockedValue { $0 } >= 2)
        for node in [client, full, ready] { try await node.expectNothingLeft() }
        for node in [client, full, ready] { await node.shutdown() }
    }

    @Test func `a listener can push a source and end the request at once`() async throws {
        let server = Node.withoutTimeouts(.server)
        let client = Node.withoutTimeouts(.client)
        _ = try server.bind("push") { request in
            do {
                try request.pushWhole("at once")
            } catch {
                Issue.record(error)
            }
            request.close()
            return .accepted
        }
        try await client.join(try await server.listening())
        for _ in 0..<20 {
            let request = DialRequest(maximumPushedSources: 2)
            let master = try await client.dial("push", request, deadline: .testDeadline)
            #expect(try await master.nextPushed().readText() == "at once")
            try await master.expectFinished()
            master.close()
        }
        for node in [client, server] { try await node.expectNothingLeft() }
        for node in [client, server] { await node.shutdown() }
    }

    // MARK: - Delegates

    @Test func `a delegate that asks for another call gets one`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request(0)
        let calls = NIOLockedValueBox(0)
        let done = EventQueue<Void>()
        client.setDelegate(
            ChangeHandler { stream in
                let count = calls.withLockedValue { calls in
                    calls += 1
                    return calls
                }
                if count < 1_000 { stream.callDelegateSoon() } else { done.append(()) }
            })
        client.callDelegateSoon()
        _ = await done.next()
        client.close()
        server.close()
        try await pair.end()
    }

    @Test func `a queued delegate call is made when the link ends`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let recorder = ChangeRecorder()
        client.setDelegate(recorder)
        let link = client.link
        // In one turn of the event loop, so that the link ends while the call is queued.
        try await link.eventLoop.submit {
            client.callDelegateSoon()
            link.handler.value?.close(AstraNetError(.linkLost, "it ends"))
        }.get()
        _ = await recorder.changes.next()
        #expect(await client.failure()?.code == .linkLost)
        client.close()
        server.close()
        await pair.client.shutdown()
        await pair.server.shutdown()
    }

    @Test func `a delegate can be called after the link has ended`() async throws {
        let pair = try await PushPair()
        let (client, server) = try await pair.request()
        let link = client.link
        let recorder = ChangeRecorder()
        client.setDelegate(recorder)
        // Before the event loop ends the stream.
        try await link.eventLoop.submit {
            _ = link.closeOutbound()
            client.callDelegateSoon()
        }.get()
        _ = await recorder.changes.next()
        client.close()
        server.close()
        await pair.client.shutdown(grace: .zero)
        await pair.server.shutdown(grace: .zero)
    }

    @Test func `the end of a link calls the delegate of each of its 3,000 streams`() async throws {
        let pair = try await PushPair()
        var streams: [(client: AstraNet.MeshStream, server: AstraNet.MeshStream)] = []
        for _ in 0..<3_000 { streams.append(try await pair.request(0)) }
        let calls = NIOLockedValueBox(0)
        let counting = ChangeHandler { _ in calls.withLockedValue { $0 += 1 } }
        // Far more streams than one turn of the event loop can handle.
        for stream in streams { stream.client.setDelegate(counting) }
        let link = pair.client.links[0]
        link.close(AstraNetError(.linkLost, "it ends"))
        try await eventually { calls.withLockedValue { $0 } >= 3_000 }
        #expect(streams.allSatisfy { $0.client.phase == .ended })
        await pair.client.shutdown()
        await pair.server.shutdown()
    }
}
