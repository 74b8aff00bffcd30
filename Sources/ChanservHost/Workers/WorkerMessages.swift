internal import FoundationEssentials

/// What a host tells a running worker: a line of JSON on their control connection.
enum WorkerCommand: Codable, Sendable, Hashable {
    /// Offer the instance under this name too, its frames encoded like this.
    case offer(name: String, compression: Bool, batchSize: Int)
    /// Destroy the instance and end: no request is open any more, or those that are shall be.
    case retire
}

/// What a worker tells its host: a line of JSON on their control connection.
enum WorkerReport: Codable, Sendable, Hashable {
    /// The instance is there, and so is its node.
    case ready(name: String, version: String)
    /// Loading the library, or creating an instance, was refused.
    case refused(String)
    /// What the preflight does next, so that a crash or a time-out can be put down to it.
    case doing(String)
    /// The preflight found nothing wrong.
    case fine
    /// What the instance has done so far.
    case statistics(PluginStatistics)
    /// The process ends itself, for this reason.
    case ending(String)
    /// destroy has returned, or has not within its time.
    case retired(isDestroyed: Bool)
}

/// Lines of JSON.
enum WorkerLine {
    /// The longest line, in bytes: messages are bounded where they are made.
    static let limit = 1 << 16

    /// The longest text of a worker's own that is kept, in bytes: it goes into logs, errors and the status.
    private static let textLimit = 1_000

    /// A worker's text as it is kept: printable, and not too long.
    static func brief(_ text: String) -> String {
        let bytes = Array(text.utf8)
        return WorkerOutput.printable(bytes.prefix(textLimit)) + (bytes.count > textLimit ? "…" : "")
    }

    static func encode(_ message: some Encodable) -> [UInt8] {
        // Plain values, which JSON can always say.
        guard let data = try? JSONEncoder().encode(message) else { return [] }
        return [UInt8](data) + [UInt8(ascii: "\n")]
    }

    static func decode<Message: Decodable>(_ line: some Collection<UInt8>, as: Message.Type) -> Message? {
        try? JSONDecoder().decode(Message.self, from: Data(line))
    }
}
