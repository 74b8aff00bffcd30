internal import CProcess
internal import NIOPosix

/// Makes programs that plugins start inherit only the standard descriptors. Must be called before code of a plugin
/// runs.
///
/// Sockets that are opened later get the flag one by one (`Channel.setCloseOnExec()`). NIO creates the descriptors of
/// its event loops without it, so the event loops must exist before.
package func closeDescriptorsOnExec() {
    _ = MultiThreadedEventLoopGroup.singleton.next()
    chanserv_close_all_on_exec()
}
