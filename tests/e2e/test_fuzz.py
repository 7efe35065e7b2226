"""A few hundred malformed requests to every kind of route, always the same: `script/fuzz` has more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.fuzzing import Fuzzer, routes, target

pytestmark = pytest.mark.e2e

EACH = 6


def test_no_malformed_request_makes_it_fail_hang_or_tell_a_secret(tmp_path_factory: pytest.TempPathFactory) -> None:
    with target(tmp_path_factory.mktemp("fuzz")) as site:
        fuzzer = Fuzzer(site, seed=8787)
        everything = routes(tmp_path_factory.mktemp("routes") / "app") * EACH
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fuzzer.throw, map(fuzzer.mangler.request, everything)))
        fuzzer.check()
        assert fuzzer.findings == []
        assert sum(fuzzer.statuses.values()) >= len(everything)
        assert fuzzer.statuses["4xx"] > fuzzer.statuses["2xx"]
        site.balance()
