"""The frontend: fetches, decodes and executes the program, and hands engine instructions to the queues."""

from tidemill_hdl.frontend.frontend import Frontend

__all__ = ["Frontend"]
