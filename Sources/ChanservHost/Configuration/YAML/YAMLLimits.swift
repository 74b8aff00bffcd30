/// What a configuration file may cost, however it is written.
package struct YAMLLimits: Sendable, Hashable {
    /// Bytes of the file.
    package var fileSize = 1 << 20
    /// Lists and mappings inside one another, aliases followed.
    package var depth = 64
    /// What the document weighs once its aliases are followed: ``valueWeight`` for each value and each key, and the
    /// bytes of their text. A file of ``fileSize`` without aliases cannot weigh more (two bytes a value at least), so
    /// only aliases of aliases come to this limit.
    package var expandedWeight = 32 << 20

    /// See ``expandedWeight``.
    package static let valueWeight = 16

    package init() {}
}
