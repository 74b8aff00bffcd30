internal import AstraNet
internal import Glibc

/// A worker process that was just started, and this process's ends of what joins the two; they are the caller's to close.
struct WorkerLaunch {
    let child: ChildProcess
    /// A socket, for the link.
    let link: Int32
    /// A socket, for commands and reports.
    let control: Int32
    /// A pipe with what it prints.
    let output: Int32
    /// What it writes the bytes of its streams to; `nil` where there is none, and all of them come over the link.
    let memory: SharedMemory?

    /// - Parameters:
    ///   - program: chanserv's own executable.
    ///   - assignment: what it is told.
    ///   - image: the library.
    ///   - options: how it is run.
    /// - Throws: ``ProcessError``, or why the assignment cannot be said; then nothing is left open.
    static func start(
        _ program: String, _ assignment: WorkerAssignment, _ image: SealedFile, _ options: IsolationOptions
    ) async throws -> WorkerLaunch {
        let frames = assignment.purpose == .serve ? SharedFile(size: WorkerLink.sharedSize, name: "frames") : nil
        var assignment = assignment
        assignment.sharesFrames = frames != nil
        let told = try SealedFile(try assignment.encoded(), name: "assignment")
        var pairs: [DescriptorPair] = []
        do {
            let link = try DescriptorPair.sockets()
            pairs.append(link)
            let control = try DescriptorPair.sockets()
            pairs.append(control)
            let output = try DescriptorPair.pipe()
            pairs.append(output)
            var start = ChildProcess.Program(program, WorkerMain.arguments(plugin: assignment.plugin))
            start.environment = options.processEnvironment
            start.output = output.far
            start.errors = output.far
            start.descriptors = [link.far, control.far, image.descriptor, told.descriptor]
            if let frames { start.descriptors.append(frames.descriptor) }
            let child = try await ChildProcess.start(start)
            for pair in pairs { close(pair.far) }
            return WorkerLaunch(
                child: child, link: link.near, control: control.near, output: output.near,
                memory: frames.flatMap { frames in
                    withExtendedLifetime(frames) { WorkerLink.memory(of: frames.descriptor, .reads) }
                })
        } catch {
            for pair in pairs { pair.close() }
            throw error
        }
    }
}
