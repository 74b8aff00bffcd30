import Testing

/// The whole, as its users have it: the built `chanserv serve`, real plugins, real signals, clients of the library.
///
/// One after the other: several move hundreds of megabytes or fifty streams, and two cores are all there may be.
@Suite(.serialized) enum EndToEnd {}
