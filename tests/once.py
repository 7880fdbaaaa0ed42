"""What libraries work out anew each time and comes out the same: in tests, once a process.

None of it is what the tests are about, and it took a quarter of their time.
"""

import functools
import ssl
import sys
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

    # The fields of a resource as Dagster's configuration, for each resource that is made.
    from dagster._config.pythonic_config import config, resource

    config.infer_schema_from_config_class = resource.infer_schema_from_config_class = _schema_once(
        config.infer_schema_from_config_class
    )

    _remember_of_dlt()


def _remember_of_dlt() -> None:
    """What dlt's annotations mean, for each configuration that is resolved and each schema made."""
    from dlt.common import typing, validation
    from dlt.common.configuration.providers import environ
    from dlt.common.configuration.specs import base_configuration
    from dlt.common.configuration.specs.base_configuration import BaseConfiguration

    for function in (
        typing.is_union_type,
        typing.is_optional_type,
        typing.is_literal_type,
        typing.is_typeddict,
        typing.is_subclass,
        base_configuration.is_base_configuration_inner_hint,
        base_configuration.is_context_inner_hint,
        base_configuration.is_hint_not_resolvable,
        base_configuration.is_valid_hint,
        base_configuration.is_secret_hint,
        base_configuration.extract_inner_hint,
    ):
        _replace_in_dlt(function, _by_identity(function))
    get_type_hints = validation.get_type_hints
    of_dict = _by_identity(lambda spec: get_type_hints(spec, vars(sys.modules[spec.__module__])))
    validation.get_type_hints = lambda spec, globalns: of_dict(spec)
    environ.EnvironProvider.get_key_name = staticmethod(
        functools.cache(environ.EnvironProvider.get_key_name)
    )

    of_class: Any = functools.cache(BaseConfiguration.get_resolvable_fields.__func__)
    BaseConfiguration.get_resolvable_fields = classmethod(lambda cls: dict(of_class(cls)))
    names = functools.cache(
        lambda cls: tuple(
            field.name
            for field in cls.__dataclass_fields__.values()
            if base_configuration.is_valid_configspec_field(field)
        )
    )
    BaseConfiguration.__iter__ = lambda self: iter(names(type(self)))
    BaseConfiguration.__len__ = lambda self: len(names(type(self)))


def _replace_in_dlt(function: Any, other: Any) -> None:
    """Replace it wherever it was imported to."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "dlt":
            for known_as, value in list(vars(module).items()):
                if value is function:
                    setattr(module, known_as, other)


def _schema_once(infer: Any) -> Any:
    of_class = functools.cache(infer)

    def remembered(
        model: Any, description: Any = None, fields_to_omit: Any = None, default: Any = None
    ) -> Any:
        if default is not None:
            return infer(model, description, fields_to_omit, default)
        return of_class(model, description, frozenset(fields_to_omit or ()))

    return remembered


def _by_identity(function: Any) -> Any:
    """Remember by the very object: equal hints need not be alike, and some have no hash."""
    known: dict[Any, tuple[Any, Any]] = {}

    def remembered(hint: Any, *more: Any, **named: Any) -> Any:
        key = (id(hint), *map(id, more), *named.items()) if more or named else id(hint)
        try:
            return known[key][1]
        except KeyError:
            known[key] = (hint, more), function(hint, *more, **named)  # whose ids remain theirs
            return known[key][1]

    return remembered
