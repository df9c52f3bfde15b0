"""Inputs that an attacker would send, and how long work on them takes."""
