internal import HostConfiguration

extension PluginHost {
    /// Watches the drop-in folder, or ends the watch of the former one.
    func watchDropIns(_ options: DropInOptions?) {
        folderWatch.take()?.cancel()
        guard let options, options.watch else { return }
        let watch = FolderWatch(options, logger: logger) { [weak self] in
            Task { await self?.reload(because: .folder) }
        }
        watch.start()
        folderWatch = watch
    }

    /// Returns why drop-ins of a configuration that was only tried are rejected, one line each.
    func rejections(_ applied: Applied, _ configuration: HostConfiguration) -> [String] {
        var table = DropInTable()
        _ = table.update(configuration, rejected: applied.rejected, kept: [], at: .now)
        return table.rejections
    }
}
