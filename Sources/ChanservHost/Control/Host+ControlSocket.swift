internal import Logging

extension Host {
    /// Binds the control socket again where its file is not at its path any more: whoever cleans up a folder of temporary
    /// files must not lock its operator out for as long as the host runs. Who is connected to the old one stays so.
    func keepControlSocket() async {
        guard let path = startedNode?.control, let control, !machine.isStopping else { return }
        guard await !control.isInPlace else { return }
        do throws(ControlSocketError) {
            let next = try await ControlServer.start(at: path, host: self, threads: threads, logger: logger)
            // The host may have stopped meanwhile.
            guard self.control === control else { return await next.stop() }
            control.letGo()
            formerControls.removeAll(where: \.hasEnded)
            formerControls.append(control)
            self.control = next
            logger.warning("the control socket \(quoted(path)) was removed by somebody: it was made again")
        } catch {
            logger.warning("the control socket \(quoted(path)) was removed by somebody, and \(error)")
        }
    }
}
