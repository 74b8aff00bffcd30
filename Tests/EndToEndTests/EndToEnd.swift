import Testing

/// End-to-end tests: the built `chanserv serve`, real plugins, real signals and clients of the library.
///
/// The tests are serialized. Several of them move hundreds of megabytes or use fifty streams, and the machine may have
/// only two cores.
@Suite(.serialized) enum EndToEnd {}
