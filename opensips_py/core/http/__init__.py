"""HTTP/1.1 client without blocking."""
