/// Builds the tree of one document from the parser's events, in one pass and without recursion.
struct YAMLTreeBuilder {
    /// The document, after it is complete.
    private(set) var root: YAMLNode?
    private(set) var problems: [ConfigurationError] = []
    /// Whether an error makes the remaining events useless.
    private(set) var failed = false

    private let file: String
    private let limits: YAMLLimits
    /// Replaces variables and files in values; `nil` to leave them as they are.
    private let substitution: YAMLSubstitution?
    private var documents = 0
    /// The open collections, outermost first.
    private var open: [Collection] = []
    private var anchors: [String: Anchored] = [:]
    /// The weight of all values so far. The value of an anchor counts again for each alias.
    private var weight = 0

    /// A list or mapping that is not complete.
    private struct Collection {
        var isMapping: Bool
        var location: ConfigurationLocation
        var anchor: String?
        /// Whether an error of the collection itself was reported.
        var isUnusable: Bool
        var elements: [YAMLNode] = []
        var entries: [YAMLEntry] = []
        /// The position of each key of a mapping.
        var keys: [String: ConfigurationLocation] = [:]
        /// The key of the next value in a mapping; `.dropped` if the value is ignored.
        var key: Key?
        /// The total weight before this collection.
        var weightBefore: Int
        /// Height of the tree below this collection, itself included.
        var height = 1
    }

    private enum Key {
        case named(String, ConfigurationLocation)
        case dropped
    }

    /// The value of an anchor: `&name value`.
    private struct Anchored {
        /// `nil` until the value is complete.
        var node: YAMLNode?
        var weight = 0
        var height = 0
    }

    init(file: String, limits: YAMLLimits, substitution: YAMLSubstitution?) {
        self.file = file
        self.limits = limits
        self.substitution = substitution
    }

    /// Returns a position from libyaml's numbers, which count from 0.
    func location(line: Int, column: Int) -> ConfigurationLocation {
        ConfigurationLocation(file: file, line: line + 1, column: column + 1)
    }

    /// Reports an error after which parsing stops.
    mutating func fail(_ message: String, at location: ConfigurationLocation) {
        problems.append(ConfigurationError(message, at: location))
        failed = true
    }

    mutating func documentStart(at location: ConfigurationLocation) {
        documents += 1
        if documents > 1 { fail("a second document begins here; a configuration is one document", at: location) }
    }

    mutating func scalar(
        _ text: String, isPlain: Bool, tag: String?, anchor: String?, at location: ConfigurationLocation
    ) {
        var node = YAMLNode(.scalar(isPlain ? YAMLScalar(plain: text) : YAMLScalar(string: text)), at: location)
        if let content = substituted(text, isPlain: isPlain, tag: tag, at: location) {
            node.content = content
        } else if let tag {
            if let scalar = scalarTagged(tag, text) {
                node.content = .scalar(scalar)
            } else {
                report("the tag \(quoted(tag)) does not fit here", at: location)
                node.content = .unusable
            }
        }
        let before = weight
        add(text.utf8.count, at: location)
        if let anchor { anchors[anchor] = Anchored(node: node, weight: weight - before, height: 0) }
        place(node, height: 0, keyText: text, isPlain: isPlain)
    }

    /// Returns the value with variables and files replaced; `nil` if it has none. A key is never replaced.
    private mutating func substituted(
        _ text: String, isPlain: Bool, tag: String?, at location: ConfigurationLocation
    ) -> YAMLNode.Content? {
        guard let substitution, !isAtKey else { return nil }
        do throws(YAMLSubstitution.Problem) {
            if tag == "!file" {
                let path = try substitution.expand(text) ?? text
                let contents = try substitution.contents(of: path)
                add(contents.utf8.count, at: location)
                return .scalar(YAMLScalar(string: contents, shown: "!file \(text)"))
            }
            guard tag == nil, let expanded = try substitution.expand(text) else { return nil }
            add(expanded.utf8.count, at: location)
            return .scalar(
                isPlain ? YAMLScalar(plain: expanded, shown: text) : YAMLScalar(string: expanded, shown: text))
        } catch {
            report(error.message, at: location)
            return .unusable
        }
    }

    /// Whether the next value is a key of a mapping.
    private var isAtKey: Bool { open.last.map { $0.isMapping && $0.key == nil } ?? false }

    mutating func alias(_ name: String, at location: ConfigurationLocation) {
        guard let anchored = anchors[name] else {
            report("undefined alias *\(name): no anchor &\(name) before it", at: location)
            return place(YAMLNode(.unusable, at: location), height: 0, keyText: nil)
        }
        guard let node = anchored.node else {
            report("the alias *\(name) is inside the value of its own anchor", at: location)
            return place(YAMLNode(.unusable, at: location), height: 0, keyText: nil)
        }
        guard open.count + anchored.height <= limits.depth else {
            return fail("more than \(limits.depth) levels of lists and mappings, aliases followed", at: location)
        }
        guard anchored.weight <= limits.expandedWeight - weight else {
            return fail(
                "the aliases expand the file to more than \(ValueGrammar.text(bytes: limits.expandedWeight))",
                at: location)
        }
        weight += anchored.weight
        place(node, height: anchored.height, keyText: nil)
    }

    mutating func listStart(tag: String?, anchor: String?, at location: ConfigurationLocation) {
        start(isMapping: false, tag: tag, standard: "tag:yaml.org,2002:seq", anchor: anchor, at: location)
    }

    mutating func mappingStart(tag: String?, anchor: String?, at location: ConfigurationLocation) {
        start(isMapping: true, tag: tag, standard: "tag:yaml.org,2002:map", anchor: anchor, at: location)
    }

    mutating func collectionEnd() {
        let collection = open.removeLast()
        let content: YAMLNode.Content =
            if collection.isUnusable { .unusable } else if collection.isMapping { .mapping(collection.entries) } else {
                .list(collection.elements)
            }
        let node = YAMLNode(content, at: collection.location)
        if let anchor = collection.anchor {
            anchors[anchor] = Anchored(node: node, weight: weight - collection.weightBefore, height: collection.height)
        }
        place(node, height: collection.height, keyText: nil)
    }

    private mutating func start(
        isMapping: Bool, tag: String?, standard: String, anchor: String?, at location: ConfigurationLocation
    ) {
        guard open.count < limits.depth else {
            return fail("more than \(limits.depth) levels of lists and mappings", at: location)
        }
        let isUnusable = !(tag == nil || tag == standard || tag == "!")
        if isUnusable { report("the tag \(quoted(tag ?? "")) does not fit here", at: location) }
        let weightBefore = weight
        add(0, at: location)
        if let anchor { anchors[anchor] = Anchored(node: nil) }
        open.append(
            Collection(
                isMapping: isMapping, location: location, anchor: anchor, isUnusable: isUnusable,
                weightBefore: weightBefore))
    }

    /// Returns the scalar `text` with the type of `tag`. Returns `nil` if the text does not have that type, or the tag
    /// is not in the core schema.
    private func scalarTagged(_ tag: String, _ text: String) -> YAMLScalar? {
        let plain = YAMLScalar(plain: text)
        return switch (tag, plain.value) {
        case ("!", _), ("tag:yaml.org,2002:str", _): YAMLScalar(string: text)
        case ("tag:yaml.org,2002:null", .null), ("tag:yaml.org,2002:bool", .boolean),
            ("tag:yaml.org,2002:int", .integer), ("tag:yaml.org,2002:float", .number),
            ("tag:yaml.org,2002:float", .integer):
            plain
        default: nil
        }
    }

    /// Adds a complete value to its collection. `keyText` is set for scalars, because only they can be keys.
    private mutating func place(_ node: YAMLNode, height: Int, keyText: String?, isPlain: Bool = false) {
        guard !failed else { return }
        guard !open.isEmpty else {
            root = node
            return
        }
        let level = open.count - 1
        open[level].height = max(open[level].height, height + 1)
        guard open[level].isMapping else { return open[level].elements.append(node) }
        switch open[level].key {
        case .none: open[level].key = key(node, keyText, isPlain: isPlain)
        case .dropped: open[level].key = nil
        case .named(let key, let location):
            open[level].key = nil
            open[level].entries.append(YAMLEntry(key: key, at: location, value: node))
        }
    }

    /// Returns the key for a value that is in the place of a key.
    private mutating func key(_ node: YAMLNode, _ text: String?, isPlain: Bool) -> Key {
        if case .unusable = node.content { return .dropped }
        guard let text else {
            report("a key must be plain text, found \(node.found)", at: node.location)
            return .dropped
        }
        if isPlain, text == "<<" {
            report("merge keys (<<) are not supported; name the whole value with an alias", at: node.location)
            return .dropped
        }
        let level = open.count - 1
        if let first = open[level].keys[text] {
            report("duplicate key \(quoted(text)) (first: \(first.withinFile))", at: node.location)
            return .dropped
        }
        open[level].keys[text] = node.location
        return .named(text, node.location)
    }

    private mutating func add(_ bytes: Int, at location: ConfigurationLocation) {
        weight += YAMLLimits.valueWeight + bytes
        if weight > limits.expandedWeight, !failed {
            fail("the file expands to more than \(ValueGrammar.text(bytes: limits.expandedWeight))", at: location)
        }
    }

    private mutating func report(_ message: String, at location: ConfigurationLocation) {
        problems.append(ConfigurationError(message, at: location))
    }
}
