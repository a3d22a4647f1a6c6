"""The routes of one host by the method that they are for, so that no method is compared with what is for another."""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter

from mesh.model.route import GrpcMatch
from mesh.policy.routing import Route, fits

_Numbered = tuple[int, Route, GrpcMatch]


class ByMethod:
    """There may be a thousand routes, and a thousand methods."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._of_one: dict[str, list[_Numbered]] = {}
        for number, route in enumerate(routes):
            if isinstance(route.match, GrpcMatch):
                self._of_one.setdefault(one_path(route), []).append((number, route, route.match))
        self._of_several = self._of_one.pop("", [])

    def that_fit(self, path: str) -> Iterator[tuple[Route, GrpcMatch]]:
        """In order, the routes that can fit a call of one method: up to the first that fits whatever its headers."""
        several = (one for one in self._of_several if fits(one[2].method, path))
        for _, route, match in merge(self._of_one.get(path, ()), several, key=itemgetter(0)):
            yield route, match
            if not match.headers:
                return

    def are_more_than(self, most: int, paths: Iterable[str]) -> bool:
        """Whether there are more pairs of one of these methods and a route that can fit it."""
        pairs = (one for path in paths for one in self.that_fit(path))
        return sum(1 for _ in islice(pairs, most + 1)) > most


def one_path(route: Route) -> str:
    """The path of the one method that the route is for; empty when it is for several."""
    method = route.match.method if isinstance(route.match, GrpcMatch) else None
    one = method and method.service and method.method and not method.regex
    return f"/{method.service}/{method.method}" if method and one else ""
