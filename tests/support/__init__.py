"""Partners that only tests need: a SIP user agent driven by hand, an HTTP server that misbehaves."""
