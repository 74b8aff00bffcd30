/// Limits on the resources that reading a configuration file can use.
package struct YAMLLimits: Sendable, Hashable {
    /// Maximum size of the file in bytes.
    package var fileSize = 1 << 20
    /// Maximum depth of nested lists and mappings, with aliases expanded.
    package var depth = 64
    /// Maximum weight of the document with aliases expanded: ``valueWeight`` for each value and each key, plus the
    /// bytes of their text. A file of ``fileSize`` without aliases stays below it, because each value takes at least
    /// two bytes. Only nested aliases reach it.
    package var expandedWeight = 32 << 20

    /// Weight of one value or key without its text, in bytes.
    package static let valueWeight = 16

    package init() {}
}
