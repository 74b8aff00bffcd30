import Foundation
import TestSupport
import Testing

/// Tests `plugins.NAME.inline`, which decides on which threads a plugin with CHANSERV_PLUGIN_INLINE is called.
@Suite struct InlineOptionTests {
    /// A plugin that answers with the name of the thread on which it is called.
    private static let source = #"""
        #include "chanserv_plugin.h"

        #include <stdlib.h>
        #include <string.h>
        #include <sys/prctl.h>

        struct chanserv_instance { char unused; };
        struct chanserv_call { int listed; };
        struct chanserv_source { int sent; };

        static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
                                      chanserv_instance **instance, chanserv_error *error) {
            chanserv_status status = host->config_only(host, config, NULL, 0, error);
            if (status < 0) return status;
            *instance = calloc(1, sizeof **instance);
            return CHANSERV_READY;
        }
        static void destroy(chanserv_instance *instance) { free(instance); }
        static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request,
                                         chanserv_call **call, chanserv_error *error) {
            (void)instance, (void)request, (void)error;
            *call = calloc(1, sizeof **call);
            return CHANSERV_READY;
        }
        static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
            (void)error;
            if (call->listed) return CHANSERV_END;
            chanserv_source *source = calloc(1, sizeof *source);
            if (sink->add(sink, "", 0, source) != CHANSERV_READY) { free(source); return CHANSERV_READY; }
            call->listed = 1;
            return CHANSERV_END;
        }
        static void cancel_call(chanserv_call *call) { (void)call; }
        static void close_call(chanserv_call *call) { free(call); }
        static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
            char name[16] = "";
            (void)error;
            if (source->sent) return CHANSERV_END;
            prctl(PR_GET_NAME, name, 0ul, 0ul, 0ul);
            if (sink->append(sink, name, strlen(name)) != CHANSERV_READY) return CHANSERV_READY;
            source->sent = 1;
            return CHANSERV_END;
        }
        static void cancel_source(chanserv_source *source) { (void)source; }
        static void close_source(chanserv_source *source) { free(source); }

        static const chanserv_plugin plugin = {
            CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin),
            CHANSERV_PLUGIN_INLINE, "thread", "1",
            create, destroy, open_call, poll_sources, cancel_call, close_call, poll_frames, cancel_source, close_source,
        };
        CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) { return &plugin; }
        """#

    private func configuration(_ isolation: String, _ inline: String) -> String {
        """
        node: {listen: 127.0.0.1:0, control: c.sock}
        plugins:
          thread: {path: thread.so, isolation: \(isolation)\(inline)}
        routes:
          - {vaddr: thread, plugin: thread}

        """
    }

    /// Posts up to 10 requests and returns the names of the threads that served them.
    ///
    /// - Parameter isLast: returns whether to stop after a request that this thread served.
    private func threads(_ host: TestHost, until isLast: (String) -> Bool = { _ in false }) async throws -> [String] {
        var threads: [String] = []
        for _ in 0..<10 {
            let exit = try await host.post("thread")
            #expect(exit.code == 0, "\(exit.errors)")
            let thread = String(exit.text.trimmingPrefix("[0] ").dropLast())
            threads.append(thread)
            if isLast(thread) { break }
        }
        return threads
    }

    private func isEventLoop(_ thread: String) -> Bool { thread.hasPrefix("NIO") }

    @Test(arguments: ["host", "process"])
    func `inline false keeps a plugin off event loops, and a change of it replaces the instance`(
        isolation: String
    ) async throws {
        try await TestHost.withFolder(configuration(isolation, "")) { folder in
            try CompiledPlugin.compile(Self.source, to: folder + "/thread.so")
            let process = try ChanservCommand.start("serve", "--config", folder + "/chanserv.yaml")
            defer { process.end() }
            let ready = try await process.errorLine(with: "ready")
            let address = try #require(ready.firstMatch(of: #/127\.0\.0\.1:\d+/#))
            let host = TestHost(folder: folder, process: process, address: String(address.output))

            // A call that is slow on a busy machine moves the instance to plugin threads for a while.
            let first = try await threads(host, until: isEventLoop)
            #expect(first.contains(where: isEventLoop), "\(first)")

            try host.configure(configuration(isolation, ", inline: false"))
            #expect(try await host.control("reload").text.contains("repointed thread"))
            let second = try await threads(host)
            #expect(!second.contains(where: isEventLoop), "\(second)")

            try host.configure(configuration(isolation, ", inline: true"))
            #expect(try await host.control("reload").text.contains("repointed thread"))
            let third = try await threads(host, until: isEventLoop)
            #expect(third.contains(where: isEventLoop), "\(third)")
        }
    }
}
