internal import Chanserv
internal import NIOConcurrencyHelpers
internal import NIOCore

/// Serves an instance to the host of its process, under a name for each way of encoding frames.
///
/// The host has the deadlines, the error mass and the limits; here there are none, so that a request ends in one way only.
final class WorkerServer: Sendable {
    private let instance: PluginInstance
    private let multiplexer: any Multiplexer
    private let services = NIOLockedValueBox<[Service]>([])

    init(_ instance: PluginInstance, on multiplexer: any Multiplexer) {
        self.instance = instance
        self.multiplexer = multiplexer
    }

    /// - Throws: where the name cannot be bound.
    func offer(_ name: String, compression: Bool, batchSize: Int) throws {
        var configuration = Server.Configuration()
        configuration.maxErrorMass = 0
        configuration.compression = compression
        configuration.batchSize = batchSize
        // A year: the host fetches or gives up every source it was told of.
        configuration.chanAcceptTimeout = .seconds(365 * 24 * 3_600)
        configuration.maxConcurrentRequests = 1 << 20
        configuration.executor = instance.executor
        let instance = instance
        let service = try Server(multiplexer: multiplexer, configuration: configuration).listenAndServe(name) {
            request in
            guard let envelope = RequestEnvelope(reading: request.body) else {
                throw EnvelopedError(PluginError(.internal, "a request without an envelope"))
            }
            var request = request
            request.body = envelope.body
            request.vAddr = envelope.vAddr
            request.meta.remoteAddress = envelope.remoteAddress
            do throws(PluginError) {
                return EnvelopingSources(try await instance.open(request))
            } catch {
                throw EnvelopedError(error)
            }
        }
        services.withLockedValue { $0.append(service) }
    }
}

/// An error with its code in front, as ``ErrorEnvelope`` says.
private struct EnvelopedError: Error, CustomStringConvertible {
    let description: String

    init(_ error: any Error) { description = ErrorEnvelope.text(of: error) }
}

/// Sources whose errors are enveloped.
private struct EnvelopingSources: AsyncSequence, Sendable {
    typealias Element = Source

    let sources: PluginSources

    init(_ sources: PluginSources) { self.sources = sources }

    func makeAsyncIterator() -> Iterator { Iterator(sources: sources.makeAsyncIterator()) }

    struct Iterator: AsyncIteratorProtocol {
        var sources: PluginSources.Iterator

        mutating func next() async throws -> Source? {
            do {
                guard let source = try await sources.next() else { return nil }
                return Source(header: source.header, producer: EnvelopingFrames(inner: source.producer))
            } catch {
                throw EnvelopedError(error)
            }
        }
    }
}

/// Frames whose errors are enveloped.
private struct EnvelopingFrames: FrameProducer {
    let inner: any FrameProducer

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        do {
            return try await inner.produce(into: &batch)
        } catch {
            throw EnvelopedError(error)
        }
    }

    func close() { inner.close() }
}
