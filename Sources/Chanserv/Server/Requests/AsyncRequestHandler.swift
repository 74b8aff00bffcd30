import NIOCore
import Synchronization

/// Serves requests with an asynchronous source function. It starts a task for the listing, and one for each source.
struct AsyncRequestHandler: RequestHandler {
    private let sourceFunc: SourceFunc
    private let executor: (any TaskExecutor)?

    init(_ sourceFunc: @escaping SourceFunc, _ configuration: Server.Configuration) {
        self.sourceFunc = sourceFunc
        executor = configuration.executor
    }

    func begin(_ request: Request, in scope: RequestScope) {
        AsyncRequestWork(scope, executor).start(request, sourceFunc)
    }
}

/// The tasks of one request.
private final class AsyncRequestWork: RequestWork {
    private struct Storage: ~Copyable {
        /// The number of parts that have not ended: the listing and the sources.
        var open = 1
        var task: Task<Void, Never>?
        var isCancelled = false
    }

    private let scope: RequestScope
    private let executor: (any TaskExecutor)?
    private let room = Event()
    private let storage = Mutex(Storage())

    init(_ scope: RequestScope, _ executor: (any TaskExecutor)?) {
        self.scope = scope
        self.executor = executor
    }

    func start(_ request: Request, _ sourceFunc: @escaping SourceFunc) {
        guard scope.attach(self) else { return partEnded() }
        let task = Task(executorPreference: executor) {
            await self.list(request, sourceFunc)
            self.partEnded()
        }
        let isCancelled = storage.withLock { storage in
            storage.task = task
            return storage.isCancelled
        }
        if isCancelled { task.cancel() }
    }

    func resume() { room.signal() }

    func cancel() {
        let task = storage.withLock { storage in
            storage.isCancelled = true
            return storage.task
        }
        task?.cancel()
    }

    /// Records that the listing or a source has ended.
    func partEnded() {
        let isOver = storage.withLock { storage in
            storage.open -= 1
            return storage.open == 0
        }
        if isOver { scope.handlerFinished() }
    }

    private func list(_ request: Request, _ sourceFunc: SourceFunc) async {
        do {
            let sources = try await sourceFunc(request)
            try await add(sources)
            // A function that ended early because it was cancelled has not succeeded.
            try Task.checkCancellation()
            scope.finish(nil)
        } catch {
            scope.finish(error)
        }
    }

    private func add(_ sources: some AsyncSequence<Source, any Error>) async throws {
        var iterator = sources.makeAsyncIterator()
        while let source = try await iterator.next() {
            storage.withLock { $0.open += 1 }
            let work = AsyncSourceWork(source.producer, of: self, executor)
            adding: while true {
                let added = scope.add(header: source.header) { output in
                    work.setOutput(output)
                    return work
                }
                switch added {
                case .added(let source):
                    source.start()
                    break adding
                case .grantExhausted:
                    if await room.wait() == .cancelled {
                        work.cancel()
                        throw CancellationError()
                    }
                case .ended:
                    work.cancel()
                    throw CancellationError()
                }
            }
        }
    }
}

/// The task of one source.
private final class AsyncSourceWork: SourceWork {
    private enum Stage {
        /// No frames were requested.
        case idle
        /// The task is being created.
        case beginning(isCancelled: Bool)
        case running(Task<Void, Never>)
        case ended
    }

    private struct Storage: ~Copyable {
        var stage = Stage.idle
        var output: (any SourceOutput)?
    }

    private let producer: any FrameProducer
    private let request: AsyncRequestWork
    private let executor: (any TaskExecutor)?
    private let room = Event()
    private let storage = Mutex(Storage())

    init(_ producer: any FrameProducer, of request: AsyncRequestWork, _ executor: (any TaskExecutor)?) {
        self.producer = producer
        self.request = request
        self.executor = executor
    }

    func setOutput(_ output: any SourceOutput) {
        storage.withLock { $0.output = output }
    }

    func resume() {
        let output = storage.withLock { storage -> (any SourceOutput)? in
            guard case .idle = storage.stage, let output = storage.output else { return nil }
            storage.stage = .beginning(isCancelled: false)
            return output
        }
        guard let output else { return room.signal() }
        let task = Task(executorPreference: executor) { await self.run(output) }
        let isCancelled = storage.withLock { storage -> Bool in
            // The task may have ended already.
            guard case .beginning(let isCancelled) = storage.stage else { return false }
            storage.stage = .running(task)
            return isCancelled
        }
        if isCancelled { task.cancel() }
    }

    func cancel() {
        enum Step { case close, cancel(Task<Void, Never>), nothing }
        let step = storage.withLock { storage -> Step in
            switch storage.stage {
            case .idle:
                storage.stage = .ended
                storage.output = nil
                return .close
            case .beginning:
                storage.stage = .beginning(isCancelled: true)
                return .nothing
            case .running(let task): return .cancel(task)
            case .ended: return .nothing
            }
        }
        switch step {
        case .close: close()
        case .cancel(let task): task.cancel()
        case .nothing: break
        }
    }

    private func close() {
        producer.close()
        request.partEnded()
    }

    private func run(_ output: any SourceOutput) async {
        do {
            try await send(to: output)
            close(output, nil)
        } catch {
            close(output, error)
        }
    }

    private func close(_ output: any SourceOutput, _ error: (any Error)?) {
        storage.withLock { storage in
            storage.stage = .ended
            storage.output = nil
        }
        producer.close()
        output.finish(error)
        request.partEnded()
    }

    private func send(to output: any SourceOutput) async throws {
        var more = true
        while more {
            let encoding = output.encoding
            var batch = FrameBatch(compression: encoding.compression, target: encoding.batchSize)
            var failure: (any Error)?
            do {
                more = try await producer.produce(into: &batch)
            } catch {
                failure = error
            }
            if batch.isEmpty {
                if failure == nil, more { await Task.yield() }
            } else if output.write(&batch) == .full, failure == nil {
                try await waitForRoom(output)
            }
            if let failure { throw failure }
            if more { try Task.checkCancellation() }
        }
        // A producer that ended early because it was cancelled has not succeeded.
        try Task.checkCancellation()
    }

    private func waitForRoom(_ output: any SourceOutput) async throws {
        while true {
            switch output.room {
            case .free: return
            case .ended: throw CancellationError()
            case .full: if await room.wait() == .cancelled { throw CancellationError() }
            }
        }
    }
}
