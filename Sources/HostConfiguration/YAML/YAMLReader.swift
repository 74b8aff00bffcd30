internal import CYAML

/// Reads a YAML document into a tree. libyaml parses the text, ``YAMLTreeBuilder`` builds the tree from its events.
package enum YAMLReader {
    /// Parses a document in UTF-8.
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - file: the name of the file in positions.
    ///   - substitution: replaces variables and files in values; `nil`, the default, to leave them as they are.
    ///   - limits: limits on the resources that reading can use.
    /// - Returns: the root, or `nil` for a file without a document (empty, or only comments), and the errors. The tree
    ///   contains ``YAMLNode/Content/unusable`` in place of wrong values. After an error that stops the parser
    ///   the root may be `nil`.
    package static func read(
        _ bytes: [UInt8], file: String, substitution: YAMLSubstitution? = nil, limits: YAMLLimits = YAMLLimits()
    ) -> (root: YAMLNode?, problems: [ConfigurationError]) {
        var builder = YAMLTreeBuilder(file: file, limits: limits, substitution: substitution)
        guard bytes.count <= limits.fileSize else {
            let problem = "the file is larger than \(ValueGrammar.text(bytes: limits.fileSize))"
            return (nil, [ConfigurationError(problem, at: ConfigurationLocation(file: file))])
        }
        if bytes.starts(with: [0xFE, 0xFF]) || bytes.starts(with: [0xFF, 0xFE]) {
            let problem = "the file is in UTF-16; save it as UTF-8"
            return (nil, [ConfigurationError(problem, at: ConfigurationLocation(file: file))])
        }
        // libyaml does not expect the byte order mark that some editors write when it is told the encoding.
        let bytes = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.dropFirst(3)) : bytes
        guard !bytes.isEmpty else { return (nil, []) }
        // The parser contains pointers into itself, so it must not move. A Swift variable could move.
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        bytes.withUnsafeBufferPointer { input in
            guard yaml_parser_initialize(parser) == 1 else {
                builder.fail("out of memory", at: ConfigurationLocation(file: file))
                return
            }
            defer { yaml_parser_delete(parser) }
            yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
            yaml_parser_set_input_string(parser, input.baseAddress, input.count)
            feed(&builder, from: parser, input)
        }
        return (builder.root, builder.problems)
    }

    /// Passes events to `builder` until the stream ends or an error prevents further parsing.
    private static func feed(
        _ builder: inout YAMLTreeBuilder, from parser: UnsafeMutablePointer<yaml_parser_t>,
        _ input: UnsafeBufferPointer<UInt8>
    ) {
        var ended = false
        while !ended, !builder.failed {
            var event = yaml_event_t()
            guard yaml_parser_parse(parser, &event) == 1 else {
                report(parser.pointee, input, to: &builder)
                return
            }
            defer { yaml_event_delete(&event) }
            let place = builder.location(line: event.start_mark.line, column: event.start_mark.column)
            switch event.type {
            case YAML_DOCUMENT_START_EVENT:
                builder.documentStart(at: place)
            case YAML_SCALAR_EVENT:
                let scalar = event.data.scalar
                builder.scalar(
                    String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self),
                    isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE, tag: text(scalar.tag),
                    anchor: text(scalar.anchor), at: place)
            case YAML_ALIAS_EVENT:
                builder.alias(text(event.data.alias.anchor) ?? "", at: place)
            case YAML_SEQUENCE_START_EVENT:
                let start = event.data.sequence_start
                builder.listStart(tag: text(start.tag), anchor: text(start.anchor), at: place)
            case YAML_MAPPING_START_EVENT:
                let start = event.data.mapping_start
                builder.mappingStart(tag: text(start.tag), anchor: text(start.anchor), at: place)
            case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
                builder.collectionEnd()
            case YAML_STREAM_END_EVENT:
                ended = true
            default:
                break  // The start of the stream and the end of a document carry no values.
            }
        }
    }

    /// Reports libyaml's error at its position.
    private static func report(
        _ parser: yaml_parser_t, _ input: UnsafeBufferPointer<UInt8>, to builder: inout YAMLTreeBuilder
    ) {
        let problem = parser.problem.map { String(cString: $0) } ?? "cannot be read as YAML"
        if parser.error == YAML_READER_ERROR {
            // For characters that libyaml rejects, it gives an offset in bytes instead of a position.
            let before = input.prefix(parser.problem_offset)
            let line = before.count { $0 == UInt8(ascii: "\n") }
            let lineStart = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
            let column = String(decoding: input[lineStart..<before.endIndex], as: UTF8.self).unicodeScalars.count
            builder.fail(problem, at: builder.location(line: line, column: column))
            return
        }
        let mark = parser.problem_mark
        let location = builder.location(line: mark.line, column: mark.column)
        if problem.contains("tab character") || character(in: input, line: mark.line, column: mark.column) == "\t" {
            builder.fail("YAML does not allow tabs for indentation: use spaces", at: location)
            return
        }
        let start = parser.context_mark
        let from = start.index < mark.index ? " that begins at \(start.line + 1):\(start.column + 1)" : ""
        let context = parser.context.map { " (\(String(cString: $0))\(from))" } ?? ""
        builder.fail(problem + context, at: location)
    }

    /// Returns the character at a position, both counted from 0; `nil` behind the end of the line or of the file.
    private static func character(
        in input: UnsafeBufferPointer<UInt8>, line: Int, column: Int
    ) -> Unicode.Scalar? {
        let lines = input.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard line < lines.count else { return nil }
        return String(decoding: lines[line], as: UTF8.self).unicodeScalars.dropFirst(column).first
    }

    private static func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        pointer.map { String(cString: $0) }
    }
}
