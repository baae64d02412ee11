"""Asks a Ray cluster for its versions and prints JSON; cluster.py runs it by its path.

Ray reads its authentication settings once per process, at import, and an unreadable token file
kills the process.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def ask(address: str) -> dict[str, str]:
    """The fields of `facts.Access`."""
    import ray._raylet
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private.services import canonicalize_bootstrap_address

    # Its stubs leave the client out.
    raylet: Any = ray._raylet
    try:
        client = raylet.GcsClient(address=canonicalize_bootstrap_address(address))
        found = get_cluster_metadata(client)
    except Exception as error:
        # The sentences after the first advise on Ray's own settings.
        text = f"{type(error).__name__}: {error}".split(". ")[0]
        refused = "authenticat" in text.lower()
        return {"answer": "refused" if refused else "silent", "text": text}
    return {"answer": "open", "ray": found["ray_version"], "python": found["python_version"]}


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])))
