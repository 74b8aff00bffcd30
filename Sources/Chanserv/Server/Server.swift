/// Offers services on a network: names to which clients post requests, and which answer with sources.
public struct Server: Sendable {
    /// Where the names are bound.
    public let multiplexer: any Multiplexer
    /// What services start with.
    public let configuration: Configuration

    /// Makes a server. It does nothing by itself.
    public init(multiplexer: any Multiplexer, configuration: Configuration = Configuration()) {
        self.multiplexer = multiplexer
        self.configuration = configuration
    }

    /// Binds `vAddr` and serves the requests posted to it until the service is stopped, whether or not it is kept.
    ///
    /// - Parameters:
    ///   - vAddr: the virtual address.
    ///   - sourceFunc: answers a request; called for several at the same time.
    /// - Throws: ``ChanservError`` with code `addressInUse` where the name is bound already, or `cancelled` after the
    ///   multiplexer was shut down.
    public func listenAndServe(_ vAddr: String, _ sourceFunc: @escaping SourceFunc) throws -> Service {
        let service = Service(vAddr, on: multiplexer, Recipe(configuration, sourceFunc, generation: 0))
        try service.start()
        return service
    }
}

/// How a request is served: what it keeps from beginning to end, whatever is swapped meanwhile.
struct Recipe: Sendable {
    let configuration: Server.Configuration
    let sourceFunc: SourceFunc
    let generation: UInt64

    init(_ configuration: Server.Configuration, _ sourceFunc: @escaping SourceFunc, generation: UInt64) {
        self.configuration = configuration
        self.sourceFunc = sourceFunc
        self.generation = generation
    }
}
