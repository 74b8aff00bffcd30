internal import CYAML

/// Reads a YAML document into a tree: libyaml's parser in front, ``YAMLTreeBuilder`` behind.
package enum YAMLReader {
    /// The document in `bytes` (UTF-8).
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - file: its name in locations.
    ///   - limits: what it may cost.
    /// - Returns: the root, `nil` for a file without a document (empty, or comments only), and the problems found:
    ///   where there are any, the tree has ``YAMLNode/Content/unusable`` in their places, or ends at a syntax error.
    package static func read(
        _ bytes: [UInt8], file: String, limits: YAMLLimits = YAMLLimits()
    ) -> (root: YAMLNode?, problems: [ConfigurationError]) {
        var builder = YAMLTreeBuilder(file: file, limits: limits)
        guard bytes.count <= limits.fileSize else {
            let problem = "the file is larger than \(ValueGrammar.text(bytes: limits.fileSize))"
            return (nil, [ConfigurationError(problem, at: ConfigurationLocation(file: file))])
        }
        guard !bytes.isEmpty else { return (nil, []) }
        // libyaml keeps a pointer to the parser inside the parser, so it must not move: not a Swift variable.
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

    /// Hands event after event to `builder` until the stream ends or cannot be followed any further.
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
                break  // The start of the stream and the end of a document say nothing.
            }
        }
    }

    /// Turns libyaml's error into a problem at its place.
    private static func report(
        _ parser: yaml_parser_t, _ input: UnsafeBufferPointer<UInt8>, to builder: inout YAMLTreeBuilder
    ) {
        let problem = parser.problem.map { String(cString: $0) } ?? "cannot be read as YAML"
        if parser.error == YAML_READER_ERROR {
            // Characters libyaml refuses have no mark, only an offset in bytes.
            let before = input.prefix(parser.problem_offset)
            let line = before.count { $0 == UInt8(ascii: "\n") }
            let lineStart = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
            let column = String(decoding: input[lineStart..<before.endIndex], as: UTF8.self).unicodeScalars.count
            builder.fail(problem, at: builder.location(line: line, column: column))
            return
        }
        let mark = parser.problem_mark
        let start = parser.context_mark
        let from = start.index < mark.index ? " that begins at \(start.line + 1):\(start.column + 1)" : ""
        let context = parser.context.map { " (\(String(cString: $0))\(from))" } ?? ""
        builder.fail(problem + context, at: builder.location(line: mark.line, column: mark.column))
    }

    private static func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        pointer.map { String(cString: $0) }
    }
}
