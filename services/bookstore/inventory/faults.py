"""A fault that can be switched on, so that one can see what the mesh makes of it."""


class FailEvery:
    """Every `count`-th time is to fail, counted in this process; with 0 none is."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._seen = 0

    def due(self) -> bool:
        """Whether this time is to fail."""
        self._seen += 1
        return self.count > 0 and self._seen % self.count == 0
