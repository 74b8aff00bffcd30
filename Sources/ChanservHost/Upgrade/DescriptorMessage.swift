internal import CSocket
internal import Glibc

/// Sends bytes and descriptors over a Unix socket.
enum DescriptorMessage {
    /// Sends the descriptors with the first byte. Blocks.
    ///
    /// - Parameter time: maximum time for the peer to receive the bytes.
    /// - Returns: whether all bytes were sent.
    static func send(_ bytes: [UInt8], _ descriptors: [Int32], to socket: Int32, within time: Duration) -> Bool {
        let deadline = ContinuousClock.now + time
        var sent = 0
        while sent < bytes.count {
            let attached = sent == 0 ? descriptors : []
            let count = bytes.withUnsafeBytes {
                chanserv_send_descriptors(
                    socket, $0.baseAddress! + sent, bytes.count - sent, attached, Int32(attached.count))
            }
            if count > 0 {
                sent += count
            } else if errno == EAGAIN {
                let left = max(0, ContinuousClock.now.duration(to: deadline) / .milliseconds(1))
                var wait = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
                guard left > 0, poll(&wait, 1, Int32(left.rounded(.up))) >= 0 || errno == EINTR else { return false }
            } else if errno != EINTR {
                return false
            }
        }
        return true
    }
}
