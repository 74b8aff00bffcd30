internal import NIOSSL
internal import X509
