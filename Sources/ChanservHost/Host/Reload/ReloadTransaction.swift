/// State machine of a reload: creates all new instances, binds all new routes, commits, and only then touches what
/// runs. If a step fails, it undoes the completed steps in reverse order.
///
/// The caller performs each action and reports the result, until the action is `finish` or `refuse`: of `create` with
/// ``created(_:failures:)``, of all others with ``succeeded()`` or ``failed(_:)``. If the creation of an instance fails,
/// the others are created nevertheless, so that one attempt finds all errors; then nothing is bound.
package struct ReloadTransaction: Sendable {
    package enum Action: Hashable, Sendable {
        /// Create these instances, in any order.
        case create([InstanceKey])
        /// Bind this vAddr. Requests that arrive from now on are served by its instance, also before the commit.
        case bind(String)
        /// Publish the new snapshot. It cannot fail, and nothing is undone after it.
        case commit
        /// Unbind this vAddr, which this transaction has bound. It cannot fail.
        case unbind(String)
        /// Destroy this instance, which this transaction has created. It cannot fail.
        case destroy(InstanceKey)
        /// End: all changes are in force. Also the end of a dry run without errors, which has undone everything.
        case finish
        /// End: nothing was changed, for these reasons.
        case refuse([String])
    }

    private enum Made: Hashable {
        case instance(InstanceKey)
        case binding(String)
    }

    private enum State: Hashable {
        case ready
        case creating
        case binding(Int)
        case committing
        /// The element that is being undone is the last one of `made`.
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
    ///   - instances: the instances to create.
    ///   - vAddrs: the routes to bind after that, in this order.
    ///   - dryRun: undo everything before the first binding. The transaction ends with `finish` if nothing failed.
    ///     `check` uses this.
    package init(create instances: [InstanceKey], bind vAddrs: [String], dryRun: Bool = false) {
        self.instances = instances
        self.vAddrs = vAddrs
        self.dryRun = dryRun
    }

    /// Returns the first action.
    package mutating func start() -> Action {
        precondition(state == .ready, "a transaction starts once")
        if instances.isEmpty { return created([], failures: []) }
        state = .creating
        return .create(instances)
    }

    /// Reports the results of `create`. Returns the next action.
    ///
    /// - Parameters:
    ///   - created: the instances that exist now. They are destroyed in the reverse order.
    ///   - failures: one line for the operator for each reason why the others do not exist.
    package mutating func created(_ created: [InstanceKey], failures: [String]) -> Action {
        precondition(state == .creating || instances.isEmpty, "no instances were to be created")
        made = created.map { .instance($0) }
        reasons = failures
        return reasons.isEmpty && !dryRun ? bind(at: 0) : undo()
    }

    /// Reports that the last action succeeded. Returns the next one.
    package mutating func succeeded() -> Action {
        switch state {
        case .binding(let index):
            made.append(.binding(vAddrs[index]))
            return bind(at: index + 1)
        case .committing:
            state = .over
            return .finish
        case .undoing:
            made.removeLast()
            return undo()
        case .ready, .creating, .over:
            preconditionFailure("nothing was to be done, or instances were to be created")
        }
    }

    /// Reports that the last action failed. Returns the next one.
    ///
    /// - Parameter reason: one line for the operator.
    package mutating func failed(_ reason: String) -> Action {
        reasons.append(reason)
        switch state {
        case .binding:
            return undo()
        case .ready, .creating, .committing, .undoing, .over:
            preconditionFailure("this cannot fail: \(reason)")
        }
    }

    /// Reports that the host is stopping and the last action was not performed. Returns the first action that undoes
    /// the transaction.
    package mutating func abandon(_ reason: String) -> Action {
        switch state {
        case .ready, .creating, .binding, .committing:
            reasons.append(reason)
            return undo()
        case .undoing, .over:
            preconditionFailure("too late to abandon")
        }
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
