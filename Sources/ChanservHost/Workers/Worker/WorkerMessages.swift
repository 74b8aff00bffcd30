internal import FoundationEssentials
package import PluginRuntime

/// Command of a host to a running worker: a line of JSON on the control connection.
package enum WorkerCommand: Codable, Sendable, Hashable {
    /// Offer the instance also under this name, with this encoding of frames.
    case offer(name: String, compression: Bool, batchSize: Int)
    /// Destroy the instance and end. The worker ends requests that are still open.
    case retire
}

/// Report of a worker to its host: a line of JSON on the control connection.
package enum WorkerReport: Codable, Sendable, Hashable {
    /// The instance and the node are ready.
    case ready(name: String, version: String)
    /// Loading the library or creating an instance failed.
    case refused(String)
    /// The next step of the preflight. A crash or a timeout is attributed to it.
    case doing(String)
    /// The preflight found no problem.
    case fine
    /// Counters of the instance, and the number of requests that the host has ended and the plugin has not closed.
    case statistics(PluginStatistics, unfinished: Int)
    /// The process ends itself for this reason.
    case ending(String)
    /// The worker is done. `isDestroyed` is `false` if destroy did not return in time.
    case retired(isDestroyed: Bool)
}

/// Encoding of messages as lines of JSON.
package enum WorkerLine {
    /// Maximum length of a line in bytes. The senders limit the length of their messages.
    static let limit = 1 << 16

    /// Maximum length of a worker's text in bytes. The text appears in logs, errors and the status.
    private static let textLimit = 1_000

    /// Makes a worker's text printable and truncates it.
    package static func brief(_ text: String) -> String {
        let bytes = Array(text.utf8)
        return WorkerOutput.printable(bytes.prefix(textLimit)) + (bytes.count > textLimit ? "…" : "")
    }

    package static func encode(_ message: some Encodable) -> [UInt8] {
        // The messages contain only plain values, so the encoding cannot fail.
        guard let data = try? JSONEncoder().encode(message) else { return [] }
        return [UInt8](data) + [UInt8(ascii: "\n")]
    }

    package static func decode<Message: Decodable>(_ line: some Collection<UInt8>, as: Message.Type) -> Message? {
        try? JSONDecoder().decode(Message.self, from: Data(line))
    }
}
