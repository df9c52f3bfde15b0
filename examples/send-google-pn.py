#!/usr/bin/env python3
"""Stands for the program of ``push.cfg`` that sends a push notification: exit status 0 says that it was delivered."""

import time

time.sleep(0.1)
