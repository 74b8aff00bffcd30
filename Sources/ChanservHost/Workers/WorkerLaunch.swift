internal import AstraNet
internal import Glibc
internal import HostConfiguration
internal import PluginRuntime

/// Worker process that was just started, with the host's descriptors for it. The caller must close the descriptors.
struct WorkerLaunch {
    let child: ChildProcess
    /// Socket of the link.
    let link: Int32
    /// Socket for commands and reports.
    let control: Int32
    /// Pipe with the output of the process.
    let output: Int32
    /// Memory to which the worker writes the bytes of its streams. `nil` if it is not available; all bytes then travel
    /// over the link.
    let memory: SharedMemory?

    /// Starts the process.
    ///
    /// - Parameters:
    ///   - program: path of chanserv's own executable.
    ///   - assignment: assignment of the worker.
    ///   - image: the library.
    ///   - options: options of the process.
    /// - Throws: ``ProcessError``, or the error of encoding the assignment. All descriptors are closed then.
    static func start(
        _ program: String, _ assignment: WorkerAssignment, _ image: SealedFile, _ options: IsolationOptions
    ) async throws -> WorkerLaunch {
        let frames = assignment.purpose == .serve ? SharedFile(size: WorkerLink.sharedSize, name: "frames") : nil
        var assignment = assignment
        assignment.sharesFrames = frames != nil
        let assignmentFile = try SealedFile(try assignment.encoded(), name: "assignment")
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
            start.descriptors = [link.far, control.far, image.descriptor, assignmentFile.descriptor]
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
