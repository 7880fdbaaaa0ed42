"""What libraries work out anew each time and comes out the same: in tests, once a process.

None of it is what the tests are about, and it took a seventh of their time.
"""

import functools
import ssl
from typing import Any


def remember() -> None:
    """Have it remembered from now on."""
    # The certificates of all authorities, for each HTTP client.
    ssl.create_default_context = functools.cache(ssl.create_default_context)

    # Dagster's migrations, for each storage of each instance.
    from alembic.script import ScriptDirectory

    ScriptDirectory.from_config = functools.cache(ScriptDirectory.from_config)

    # Which models of requests may hold texts to embed, for each client.
    import qdrant_client.qdrant_client as client

    client.Inspector = functools.cache(client.Inspector)

    # What the annotations of configurations mean, for each of them that is resolved.
    from dlt.common.configuration import resolve
    from dlt.common.configuration.providers import environ
    from dlt.common.configuration.specs.base_configuration import BaseConfiguration, is_secret_hint

    environ.is_secret_hint = resolve.is_secret_hint = _by_identity(is_secret_hint)
    resolvable_fields: Any = BaseConfiguration.get_resolvable_fields
    of_class = functools.cache(resolvable_fields.__func__)
    BaseConfiguration.get_resolvable_fields = classmethod(lambda cls: dict(of_class(cls)))


def _by_identity(function: Any) -> Any:
    """Remember by the very object: equal hints need not be alike, and some have no hash."""
    known: dict[int, tuple[Any, Any]] = {}

    def remembered(hint: Any) -> Any:
        if id(hint) not in known:
            known[id(hint)] = hint, function(hint)
        return known[id(hint)][1]

    return remembered
