"""Readers of what comes over the network, fed with anything (make fuzz)."""
