"""The dashboard without its process: page, REST side and metrics, over the control socket and the ticks.

It reads mcm like any other client, and nothing of mcm reads it: if it is slow or dies, nobody else notices.
"""
