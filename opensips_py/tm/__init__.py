"""The transaction layer: state machines without I/O, branches, timers as data (RFC 3261 section 17, OpenSIPS module tm)."""
