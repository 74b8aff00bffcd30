extension Configuration {
    /// Decodes the whole configuration into a type of the plugin.
    ///
    /// ```swift
    /// struct Options: Decodable {
    ///     let root: ConfiguredPath      // required
    ///     let interval: Duration?       // may be left out
    /// }
    /// let options = try configuration.decode(Options.self)
    /// ```
    ///
    /// Supported are text, numbers, booleans, lists, dictionaries, types made of these, `Duration` (`30s`),
    /// ``ByteSize`` (`64KiB`) and ``ConfiguredPath``. If a value is not a case of a `CaseIterable` enumeration of
    /// texts, the error message lists the cases. A key whose value is null counts as absent.
    ///
    /// - Throws: ``PluginError`` that states the place in the file and the key: for a value of another type, for a
    ///   missing key, and for a key that the type does not have, with the most similar known key. A `DecodingError`
    ///   that the type's own `init(from:)` throws gets its place too.
    public func decode<Options: Decodable>(_ type: Options.Type = Options.self) throws -> Options {
        try decode(type, defaults: nil)
    }

    /// Decodes the whole configuration. The values of `example` apply to keys that the configuration does not set.
    ///
    /// ```swift
    /// struct Options: Codable {
    ///     var sources = 1
    ///     var interval = Duration.seconds(1)
    /// }
    /// let options = try configuration.decode(over: Options())
    /// ```
    ///
    /// The same holds for the properties of nested types. Lists and dictionaries are replaced as a whole.
    ///
    /// - Throws: as ``decode(_:)``.
    public func decode<Options: Codable>(over example: Options) throws -> Options {
        try decode(Options.self, defaults: ConfigurationDefaults(of: example))
    }

    private func decode<Options: Decodable>(_ type: Options.Type, defaults: ConfigurationDefaults?) throws -> Options {
        let tree = try getters.json().map { json throws(PluginError) in try ConfigurationTree(json: json) }
        let decoder = ConfigurationDecoder(
            getters: getters, node: tree ?? .mapping([]), codingPath: [], defaults: defaults)
        do {
            return try decoder.decode(type)
        } catch let error as DecodingError {
            throw decoder.describe(error)
        }
    }
}
