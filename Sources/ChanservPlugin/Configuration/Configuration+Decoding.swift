extension Configuration {
    /// Reads everything into a type of the plugin's own.
    ///
    /// ```swift
    /// struct Options: Decodable {
    ///     let root: ConfiguredPath      // required
    ///     let interval: Duration?       // may be left out
    /// }
    /// let options = try configuration.decode(Options.self)
    /// ```
    ///
    /// Besides text, numbers, booleans, lists, dictionaries and types made of these there are `Duration` (`30s`),
    /// ``ByteSize`` (`64KiB`) and ``ConfiguredPath``. An enumeration of texts that is `CaseIterable` names its cases
    /// where the text is none of them. A key that is null is as one that is absent.
    ///
    /// - Throws: ``PluginError`` that names the place in the file and the key: for a value of another type, a key that
    ///   is missing, and a key that the type does not ask for, with the nearest that it does. What the type's own
    ///   `init(from:)` throws as a `DecodingError` gets its place too.
    public func decode<Options: Decodable>(_ type: Options.Type = Options.self) throws -> Options {
        try decode(type, defaults: nil)
    }

    /// Reads everything over an example, whose values count where the configuration says nothing.
    ///
    /// ```swift
    /// struct Options: Codable {
    ///     var sources = 1
    ///     var interval = Duration.seconds(1)
    /// }
    /// let options = try configuration.decode(over: Options())
    /// ```
    ///
    /// This holds for the properties of types inside it as well; lists and dictionaries are replaced as a whole.
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
