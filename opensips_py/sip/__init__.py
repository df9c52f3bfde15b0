"""The SIP protocol without I/O (RFC 3261): messages, URIs, headers, digest, SDP; bytes in, bytes out."""
