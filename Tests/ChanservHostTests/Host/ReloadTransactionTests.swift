import ChanservHost
import Testing

@Suite struct ReloadTransactionTests {
    typealias Action = ReloadTransaction.Action

    static let keys = ["a", "b", "c"].map { InstanceKey(plugin: $0, digest: "0", config: "{}") }
    static let vAddrs = ["x", "y"]

    /// Runs a transaction in which the actions in `failing` and the creations of `broken` fail, and returns all actions
    /// that it requested.
    func run(
        _ transaction: ReloadTransaction, failing: Set<Action> = [], broken: Set<InstanceKey> = []
    ) -> [Action] {
        var transaction = transaction
        var actions: [Action] = []
        var action = transaction.start()
        while true {
            actions.append(action)
            switch action {
            case .finish, .refuse: return actions
            case .create(let keys):
                action = transaction.created(
                    keys.filter { !broken.contains($0) }, failures: keys.filter(broken.contains).map(\.plugin))
            default:
                action = failing.contains(action) ? transaction.failed("\(action)") : transaction.succeeded()
            }
        }
    }

    @Test func `all new instances are created and all new routes bound before the swap`() {
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs))
        #expect(actions == [.create(Self.keys)] + Self.vAddrs.map(Action.bind) + [.commit, .finish])
    }

    @Test func `a transaction without new instances and routes is only the swap`() {
        #expect(run(ReloadTransaction(create: [], bind: [])) == [.commit, .finish])
    }

    @Test(arguments: keys.indices)
    func `a failed create destroys the other instances in reverse order and binds nothing`(index: Int) {
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs), broken: [Self.keys[index]])
        var made = Self.keys
        made.remove(at: index)
        let destroyed = made.reversed().map(Action.destroy)
        #expect(actions == [.create(Self.keys)] + destroyed + [.refuse([Self.keys[index].plugin])])
    }

    @Test(arguments: vAddrs.indices)
    func `a failed bind unbinds the other routes and destroys all instances in reverse order`(index: Int) {
        let failing = Action.bind(Self.vAddrs[index])
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs), failing: [failing])
        let bound = Self.vAddrs[..<index]
        let expected =
            [.create(Self.keys)] + Self.vAddrs[...index].map(Action.bind)
            + bound.reversed().map(Action.unbind) + Self.keys.reversed().map(Action.destroy)
            + [.refuse(["\(failing)"])]
        #expect(actions == expected)
    }

    @Test func `all failures of one attempt are reported`() {
        let broken: Set = [Self.keys[0], Self.keys[2]]
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs), broken: broken)
        #expect(actions.last == .refuse(["a", "c"]))
        #expect(actions.dropLast().last == .destroy(Self.keys[1]))
    }

    @Test func `a dry run creates and destroys all instances without binding or swapping`() {
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs, dryRun: true))
        #expect(actions == [.create(Self.keys)] + Self.keys.reversed().map(Action.destroy) + [.finish])
    }

    @Test func `a dry run reports failures`() {
        let actions = run(ReloadTransaction(create: Self.keys, bind: [], dryRun: true), broken: [Self.keys[1]])
        #expect(actions.last == .refuse(["b"]))
    }

    /// Abandons the transaction after each possible number of steps.
    @Test(arguments: 0...3) func `an abandoned transaction undoes exactly the steps that it has done`(steps: Int) {
        var transaction = ReloadTransaction(create: Self.keys, bind: Self.vAddrs)
        var undo: [Action] = []
        var action = transaction.start()
        for _ in 0..<steps {
            switch action {
            case .create(let keys):
                undo += keys.map(Action.destroy)
                action = transaction.created(keys, failures: [])
            case .bind(let vAddr):
                undo.append(.unbind(vAddr))
                action = transaction.succeeded()
            default: Issue.record("\(action) cannot be undone")
            }
        }
        action = transaction.abandon("stopping")
        for expected in undo.reversed() {
            #expect(action == expected)
            action = transaction.succeeded()
        }
        #expect(action == .refuse(["stopping"]))
    }
}
