"""What processes share: store, locks, counters, control channel, file descriptors. Knows nothing about SIP."""
