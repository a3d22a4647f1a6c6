"""How a process ended, in words."""

from datetime import timedelta
from signal import Signals


def describe(status: int, lived: timedelta, last_line: str) -> str:
    """For example `exited with code 1 after 0.3 s: no such table`. `status` is that of `Process.status`."""
    how = f"was ended by {_signal_name(-status)}" if status < 0 else f"exited with code {status}"
    return f"{how} after {lived.total_seconds():.1f} s" + (f": {last_line}" if last_line else "")


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
