internal import DequeModule

/// A queue that stores its first element inline. It allocates memory only for further elements, which most queues of a
/// stream never have.
package struct ShortQueue<Element> {
    package private(set) var first: Element?
    /// The elements behind the first.
    private var others: Deque<Element>?

    package init() {}

    package var count: Int { first == nil ? 0 : 1 + (others?.count ?? 0) }

    package var isEmpty: Bool { first == nil }

    package var last: Element? { others?.last ?? first }

    package mutating func append(_ element: Element) {
        guard first != nil else { return first = element }
        if others == nil { others = [] }
        others?.append(element)
    }

    package mutating func popFirst() -> Element? {
        guard let popped = first.take() else { return nil }
        first = others?.popFirst()
        if others?.isEmpty ?? false { others = nil }
        return popped
    }

    /// Changes the first element in place. The queue must not be empty.
    package mutating func changeFirst<Result>(_ body: (inout Element) -> Result) -> Result {
        body(&first!)
    }

    /// Changes the last element in place. The queue must not be empty.
    package mutating func changeLast(_ body: (inout Element) -> Void) {
        if let count = others?.count, count > 0 { body(&others![count - 1]) } else { body(&first!) }
    }
}

extension ShortQueue: Sendable where Element: Sendable {}
