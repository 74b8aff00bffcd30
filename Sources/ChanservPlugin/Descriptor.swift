public import CChanservPlugin

extension Plugin {
    /// The ABI table of this type, which the entry point of the library returns.
    ///
    /// C functions have no type parameters, so the type is stored in a global variable. A library can therefore export
    /// only one plugin type. For a second type this is `nil`, and the host refuses to load the library.
    public static var descriptor: UnsafePointer<chanserv_plugin>? {
        exported.withLock { exported in
            if let exported {
                return exported.type == Self.self ? UnsafePointer(bitPattern: exported.table) : nil
            }
            let table = UnsafeMutablePointer<chanserv_plugin>.allocate(capacity: 1)
            table.initialize(to: makeTable(name: constant(name), version: constant(version), isInline: isInline))
            exported = (Self.self, UInt(bitPattern: table))
            return UnsafePointer(table)
        }
    }
}

/// The exported type and the address of its table, which is never freed.
private let exported = Locked<(type: any Plugin.Type, table: UInt)?>(nil)

/// Returns a C copy of a text that is never freed.
private func constant(_ text: String) -> UnsafePointer<CChar> {
    let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: text.utf8.count + 1)
    _ = copy.initialize(from: text.utf8.lazy.map { CChar(bitPattern: $0) } + [0])
    return UnsafePointer(copy.baseAddress!)
}

private func makeTable(
    name: UnsafePointer<CChar>, version: UnsafePointer<CChar>, isInline: Bool
) -> chanserv_plugin {
    chanserv_plugin(
        // The value of the macro CHANSERV_PLUGIN_MAGIC, which Swift cannot import: "CHSP".
        magic: 0x5053_4843,
        abi_major: UInt16(CHANSERV_ABI_MAJOR),
        abi_minor: UInt16(CHANSERV_ABI_MINOR),
        struct_size: UInt32(MemoryLayout<chanserv_plugin>.size),
        flags: isInline ? UInt32(CHANSERV_PLUGIN_INLINE) : 0,
        name: name,
        version: version,
        create: { host, config, instance, buffer in
            do {
                guard let host, let instance, let type = exported.withLock({ $0?.type }) else {
                    throw PluginError(.internal, "create was called without a host")
                }
                instance.pointee = handOut(try Instance(type, host: host, config: config))
                return chanserv_status(CHANSERV_READY)
            } catch {
                return PluginError(describing: error).report(to: buffer)
            }
        },
        destroy: { instance in
            takeBack(instance, as: Instance.self).plugin.stop()
        },
        open: { instance, request, call, error in
            guard let request, let call else { return chanserv_status(CHANSERV_ERROR_INTERNAL) }
            call.pointee = handOut(Call(borrow(instance, as: Instance.self), Request(request)))
            return chanserv_status(CHANSERV_READY)
        },
        poll_sources: { call, sink, error in
            borrow(call, as: Call.self).poll(sink!, error)
        },
        cancel_call: { call in
            borrow(call, as: Call.self).cancel()
        },
        close_call: { call in
            takeBack(call, as: Call.self).cancel()
        },
        poll_frames: { source, sink, error in
            borrow(source, as: Stream.self).poll(sink!, error)
        },
        cancel_source: { source in
            borrow(source, as: Stream.self).cancel()
        },
        close_source: { source in
            takeBack(source, as: Stream.self).cancel()
        }
    )
}

// MARK: Objects as opaque pointers of the host

func handOut(_ object: AnyObject) -> OpaquePointer {
    OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

private func borrow<Object: AnyObject>(_ pointer: OpaquePointer?, as type: Object.Type) -> Object {
    Unmanaged<Object>.fromOpaque(UnsafeRawPointer(pointer!)).takeUnretainedValue()
}

@discardableResult
func takeBack<Object: AnyObject>(_ pointer: OpaquePointer?, as type: Object.Type) -> Object {
    Unmanaged<Object>.fromOpaque(UnsafeRawPointer(pointer!)).takeRetainedValue()
}
