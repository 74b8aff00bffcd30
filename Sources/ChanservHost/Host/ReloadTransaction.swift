/// The order of a reload: make everything new, bind what is new, swap, and only then touch what runs; or, when anything
/// fails, undo what was made in reverse and leave everything as it was.
///
/// The caller does what an action says and answers with ``succeeded()`` or ``failed(_:)`` until it is told the end.
/// After a failed `create` the remaining ones are still tried, so that one attempt tells an operator everything that is
/// wrong; nothing is bound any more.
package struct ReloadTransaction: Sendable {
    package enum Action: Hashable, Sendable {
        /// Make this instance.
        case create(InstanceKey)
        /// Bind this vAddr, without serving it yet.
        case bind(String)
        /// Swap the snapshot; it cannot fail and nothing is undone from here.
        case commit
        /// Give up this vAddr, which was bound by this transaction. It cannot fail.
        case unbind(String)
        /// Destroy this instance, which was made by this transaction. It cannot fail.
        case destroy(InstanceKey)
        /// It is over: everything was done.
        case finish
        /// It is over: nothing was changed, for these reasons.
        case refuse([String])
    }

    private enum Made: Hashable {
        case instance(InstanceKey)
        case binding(String)
    }

    private enum State: Hashable {
        case ready
        case creating(Int)
        case binding(Int)
        case committing
        /// Undoing; what is being undone is still the last of `made`.
        case undoing
        case over
    }

    private let instances: [InstanceKey]
    private let vAddrs: [String]
    private let dryRun: Bool
    private var state: State = .ready
    private var made: [Made] = []
    private var reasons: [String] = []

    /// - Parameters:
    ///   - instances: to create, in this order.
    ///   - vAddrs: to bind afterwards, in this order.
    ///   - dryRun: stop before the first binding and undo everything, whether it went well or not; the end is then
    ///     `finish` where nothing failed. This is what `check` does.
    package init(create instances: [InstanceKey], bind vAddrs: [String], dryRun: Bool = false) {
        self.instances = instances
        self.vAddrs = vAddrs
        self.dryRun = dryRun
    }

    /// The first action.
    package mutating func start() -> Action {
        precondition(state == .ready, "a transaction starts once")
        return create(at: 0)
    }

    /// The action before was done.
    package mutating func succeeded() -> Action {
        switch state {
        case .creating(let index):
            made.append(.instance(instances[index]))
            return create(at: index + 1)
        case .binding(let index):
            made.append(.binding(vAddrs[index]))
            return bind(at: index + 1)
        case .committing:
            state = .over
            return .finish
        case .undoing:
            made.removeLast()
            return undo()
        case .ready, .over:
            preconditionFailure("nothing was to be done")
        }
    }

    /// The action before could not be done.
    ///
    /// - Parameter reason: one line for the operator.
    package mutating func failed(_ reason: String) -> Action {
        reasons.append(reason)
        switch state {
        case .creating(let index):
            return create(at: index + 1)
        case .binding:
            return undo()
        case .ready, .committing, .undoing, .over:
            preconditionFailure("this cannot fail: \(reason)")
        }
    }

    /// The host is stopping: the action before was not begun, and nothing more is.
    package mutating func abandon(_ reason: String) -> Action {
        switch state {
        case .ready, .creating, .binding, .committing:
            reasons.append(reason)
            return undo()
        case .undoing, .over:
            preconditionFailure("too late to abandon")
        }
    }

    private mutating func create(at index: Int) -> Action {
        if index < instances.count {
            state = .creating(index)
            return .create(instances[index])
        }
        return reasons.isEmpty && !dryRun ? bind(at: 0) : undo()
    }

    private mutating func bind(at index: Int) -> Action {
        if index < vAddrs.count {
            state = .binding(index)
            return .bind(vAddrs[index])
        }
        state = .committing
        return .commit
    }

    private mutating func undo() -> Action {
        switch made.last {
        case .binding(let vAddr):
            state = .undoing
            return .unbind(vAddr)
        case .instance(let key):
            state = .undoing
            return .destroy(key)
        case nil:
            state = .over
            return reasons.isEmpty ? .finish : .refuse(reasons)
        }
    }
}
