internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// Creates the control socket again if its file was removed. Otherwise a program that cleans up temporary files
    /// could lock the operator out until the host restarts. Connections to the old socket continue.
    func maintainControlSocket() async {
        guard let path = startedNode?.control, let control, !machine.isStopping else { return }
        guard await !control.isInPlace else { return }
        do throws(ControlSocketError) {
            let next = try await ControlServer.start(at: path, host: self, threads: threads, logger: logger)
            // The host may have stopped during the call.
            guard self.control === control else { return await next.stop() }
            control.releaseSocket()
            formerControls.removeAll(where: \.hasEnded)
            formerControls.append(control)
            self.control = next
            logger.warning("the control socket \(quoted(path)) was removed: created it again")
        } catch {
            logger.warning("the control socket was removed: \(error)")
        }
    }
}
