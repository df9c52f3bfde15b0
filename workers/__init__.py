"""The process model: attendant, SIP receivers, timer, MI process, reactor, supervision, signals."""
