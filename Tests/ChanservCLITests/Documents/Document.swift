import Foundation
import TestSupport

/// A Markdown document as a list of steps that a reader follows. Comments before a code block say what to do with it;
/// CONTRIBUTING.md, "Documents", lists them.
struct Document {
    struct Malformed: Error, CustomStringConvertible {
        var description: String
    }

    /// A command of a `console` block with the output that the document shows.
    struct Command {
        var text: String
        var output: [String] = []
    }

    enum Step {
        /// Run a command that must succeed. Its output does not matter.
        case run(String)
        /// Run commands and compare their output.
        case session([Command])
        /// Write a file.
        case write(String, file: String)
    }

    /// The repository.
    static let root = URL(fileURLWithPath: CompiledPlugin.includeFolder + "/../../..").standardized.path

    /// The steps, in the order of the document.
    let steps: [Step]

    /// Reads a document of the repository.
    init(_ path: String) throws {
        let text = try String(contentsOfFile: "\(Self.root)/\(path)", encoding: .utf8)
        var steps: [Step] = []
        var instruction: Instruction?
        var lines = text.components(separatedBy: "\n")[...]
        while let line = lines.popFirst() {
            if let comment = line.wholeMatch(of: #/<!-- ([a-z ]+): (.+) -->/#) {
                let (name, argument) = (String(comment.1), String(comment.2))
                if name == "run" {
                    steps.append(.run(argument))
                } else {
                    instruction = try Instruction(name, argument)
                }
            } else if line.hasPrefix("```") {
                let block = Array(lines.prefix { $0 != "```" })
                lines = lines.dropFirst(block.count + 1)
                let language = line.dropFirst(3).prefix { $0 != " " }
                if let step = try Self.step(String(language), block, instruction) { steps.append(step) }
                instruction = nil
            }
        }
        guard instruction == nil else { throw Malformed(description: "\(path): no block follows the last comment") }
        self.steps = steps
    }

    /// A comment about the block that follows it.
    private enum Instruction {
        case file(String)
        case notRun

        init(_ name: String, _ argument: String) throws {
            switch name {
            case "file": self = .file(argument)
            case "not run": self = .notRun
            default: throw Malformed(description: "unknown comment '\(name)'")
            }
        }
    }

    private static func step(_ language: String, _ block: [String], _ instruction: Instruction?) throws -> Step? {
        switch (instruction, language) {
        case (.notRun, _):
            return nil
        case (.file(let file), _):
            return .write(block.joined(separator: "\n") + "\n", file: file)
        case (nil, "sh"):
            return .run("set -e\n" + block.joined(separator: "\n"))
        case (nil, "console"):
            return .session(try commands(block))
        case (nil, _):
            return nil
        }
    }

    /// Splits a session into its commands. A line `> …` after a command continues it.
    private static func commands(_ block: [String]) throws -> [Command] {
        var commands: [Command] = []
        for line in block {
            if line.hasPrefix("$ ") {
                commands.append(Command(text: String(line.dropFirst(2))))
                continue
            }
            guard let last = commands.indices.last else {
                throw Malformed(description: "a session does not begin with a command: \(line)")
            }
            if line.hasPrefix("> "), commands[last].output.isEmpty {
                commands[last].text += "\n" + line.dropFirst(2)
            } else {
                commands[last].output.append(line)
            }
        }
        return commands
    }

    /// Whether `lines` is the output that a document shows as `pattern`. In a pattern `…` stands for any text, and a
    /// line of only `…` for any lines. Runs of spaces are equal, because columns are as wide as their content.
    static func matches(_ lines: ArraySlice<String>, _ pattern: ArraySlice<String>) -> Bool {
        guard let first = pattern.first else { return lines.isEmpty }
        let rest = pattern.dropFirst()
        if first == "…" { return (0...lines.count).contains { matches(lines.dropFirst($0), rest) } }
        guard let line = lines.first, matches(line, first) else { return false }
        return matches(lines.dropFirst(), rest)
    }

    private static func matches(_ line: String, _ pattern: String) -> Bool {
        let pieces = pattern.replacing(#/ +/#, with: " ").components(separatedBy: "…")
        var rest = line.replacing(#/ +/#, with: " ")[...]
        guard pieces.count > 1 else { return rest == pieces[0] }
        guard rest.hasPrefix(pieces[0]) else { return false }
        rest = rest.dropFirst(pieces[0].count)
        for piece in pieces.dropFirst().dropLast() where !piece.isEmpty {
            guard let range = rest.range(of: piece) else { return false }
            rest = rest[range.upperBound...]
        }
        return rest.hasSuffix(pieces[pieces.count - 1])
    }
}
