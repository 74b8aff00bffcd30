import Foundation

extension CompiledPlugin {
    /// The sample plugin in the comments of chanserv_push.h.
    package static func pushSample() throws -> String {
        let header = try String(contentsOfFile: "\(includeFolder)/chanserv_push.h", encoding: .utf8)
        let lines = header.components(separatedBy: "\n")
        guard let start = lines.firstIndex(of: " * [sample]"), let end = lines.firstIndex(of: " * [end]"), start < end
        else { throw Failure(description: "chanserv_push.h has no sample") }
        return lines[(start + 1)..<end].map { String($0.dropFirst(3)) }.joined(separator: "\n")
    }
}
