"""opensips-py: a SIP server that runs ``opensips.cfg`` routing scripts."""

__version__ = "0.1.0"
