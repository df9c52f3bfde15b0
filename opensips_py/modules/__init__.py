"""One file per OpenSIPS module, under the same name."""
