package import CChanservPlugin

/// Validated copy of a plugin's descriptor.
///
/// `@unchecked Sendable`: the fields are function pointers and constants of a library that is never unloaded. They do
/// not change after initialisation.
package struct PluginDescriptor: @unchecked Sendable {
    /// Short name for logs.
    package let name: String
    /// The plugin's own version, in any form.
    package let version: String
    /// Whether no two functions of one instance may overlap.
    package let isSerial: Bool
    /// Whether functions may block.
    package let isBlocking: Bool
    /// Whether open, poll and close return within microseconds, so that they may be called on an event loop.
    package let isInline: Bool

    package let create:
        @convention(c) (
            UnsafePointer<chanserv_host>?, OpaquePointer?, UnsafeMutablePointer<OpaquePointer?>?,
            UnsafeMutablePointer<chanserv_error>?
        ) -> chanserv_status
    package let destroy: @convention(c) (OpaquePointer?) -> Void
    package let open:
        @convention(c) (
            OpaquePointer?, UnsafePointer<chanserv_request>?, UnsafeMutablePointer<OpaquePointer?>?,
            UnsafeMutablePointer<chanserv_error>?
        ) -> chanserv_status
    package let pollSources:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<chanserv_source_sink>?, UnsafeMutablePointer<chanserv_error>?
        ) -> chanserv_status
    package let cancelCall: @convention(c) (OpaquePointer?) -> Void
    package let closeCall: @convention(c) (OpaquePointer?) -> Void
    package let pollFrames:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<chanserv_frame_sink>?, UnsafeMutablePointer<chanserv_error>?
        ) -> chanserv_status
    package let cancelSource: @convention(c) (OpaquePointer?) -> Void
    package let closeSource: @convention(c) (OpaquePointer?) -> Void

    /// Reason for rejecting a descriptor: a sentence without the name of the file.
    package struct Refusal: Error, Hashable {
        package var message: String
    }

    /// `CHANSERV_PLUGIN_MAGIC`, a macro that Swift does not import.
    private static let magic: UInt32 = 0x5053_4843
    private static let knownFlags = UInt32(
        CHANSERV_PLUGIN_SERIAL | CHANSERV_PLUGIN_BLOCKING | CHANSERV_PLUGIN_INLINE)
    /// `sizeof(struct chanserv_plugin)` of ABI version 1.0. It never grows; the size in this host's header may.
    private static let sizeOfVersion10 = 104
    private static let nameLimit = 256

    /// Reads and validates the descriptor that the entry function returned. Reads the head first, then at most
    /// `struct_size` bytes.
    ///
    /// - Throws: ``Refusal``.
    package init(_ pointer: UnsafePointer<chanserv_plugin>?) throws(Refusal) {
        guard let pointer else {
            throw Refusal(message: "its \(CHANSERV_ENTRY_NAME)() returned NULL: it refuses to load")
        }
        let head = UnsafeRawPointer(pointer)
        guard UInt(bitPattern: head) % UInt(MemoryLayout<chanserv_plugin>.alignment) == 0 else {
            throw Refusal(message: "its \(CHANSERV_ENTRY_NAME)() returned a misaligned address")
        }
        let magic = head.load(as: UInt32.self)
        guard magic == Self.magic else {
            throw Refusal(
                message: "its descriptor begins with 0x\(String(magic, radix: 16)) instead of CHANSERV_PLUGIN_MAGIC "
                    + "(0x\(String(Self.magic, radix: 16)))")
        }
        let major = head.load(fromByteOffset: 4, as: UInt16.self)
        guard major == CHANSERV_ABI_MAJOR else {
            throw Refusal(
                message: "it was built for major version \(major) of the plugin ABI, this host supports "
                    + "\(CHANSERV_ABI_MAJOR); build it with this host's chanserv_plugin.h")
        }
        let size = head.load(fromByteOffset: 8, as: UInt32.self)
        guard size >= Self.sizeOfVersion10 else {
            throw Refusal(
                message: "its descriptor has struct_size \(size), the minimum is \(Self.sizeOfVersion10); "
                    + "set it to sizeof(struct chanserv_plugin)")
        }
        let flags = head.load(fromByteOffset: 12, as: UInt32.self)
        let unknownFlags = flags & ~Self.knownFlags
        guard unknownFlags == 0 else {
            throw Refusal(
                message: "its descriptor has flags that this host does not know "
                    + "(0x\(String(unknownFlags, radix: 16))); it needs a newer host")
        }
        let contradiction = UInt32(CHANSERV_PLUGIN_BLOCKING | CHANSERV_PLUGIN_INLINE)
        guard flags & contradiction != contradiction else {
            throw Refusal(
                message: "its descriptor has both CHANSERV_PLUGIN_BLOCKING (functions may block) and "
                    + "CHANSERV_PLUGIN_INLINE (functions return within microseconds); remove one of the two flags")
        }
        // `size` proves that every field of version 1.0 exists, and this host's header has no further fields.
        let plugin = pointer.pointee
        name = try Self.text(plugin.name, field: "name")
        version = try Self.text(plugin.version, field: "version")
        guard !name.isEmpty else { throw Refusal(message: "its descriptor's name is empty") }
        isSerial = flags & UInt32(CHANSERV_PLUGIN_SERIAL) != 0
        isBlocking = flags & UInt32(CHANSERV_PLUGIN_BLOCKING) != 0
        isInline = flags & UInt32(CHANSERV_PLUGIN_INLINE) != 0
        create = try Self.present(plugin.create, field: "create")
        destroy = try Self.present(plugin.destroy, field: "destroy")
        open = try Self.present(plugin.open, field: "open")
        pollSources = try Self.present(plugin.poll_sources, field: "poll_sources")
        cancelCall = try Self.present(plugin.cancel_call, field: "cancel_call")
        closeCall = try Self.present(plugin.close_call, field: "close_call")
        pollFrames = try Self.present(plugin.poll_frames, field: "poll_frames")
        cancelSource = try Self.present(plugin.cancel_source, field: "cancel_source")
        closeSource = try Self.present(plugin.close_source, field: "close_source")
    }

    private static func present<Function>(_ function: Function?, field: String) throws(Refusal) -> Function {
        guard let function else {
            throw Refusal(message: "its descriptor's function \(field) is NULL; every function is required")
        }
        return function
    }

    private static func text(_ pointer: UnsafePointer<CChar>?, field: String) throws(Refusal) -> String {
        guard let pointer else { throw Refusal(message: "its descriptor's \(field) is NULL") }
        var length = 0
        while pointer[length] != 0 {
            length += 1
            guard length <= nameLimit else {
                throw Refusal(message: "its descriptor's \(field) is longer than \(nameLimit) bytes")
            }
        }
        let bytes = UnsafeRawBufferPointer(start: pointer, count: length)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Refusal(message: "its descriptor's \(field) is not UTF-8")
        }
        return text
    }
}
