"""Mistakes in a YAML file, each named once and at its line.

Dagster lets each value be a template, so each is "this, or a string". Of a mistake within one of
them pydantic shows all alternatives, and the JSON schema says no more than that none is valid.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails

from dagster_qdrant.runs.options import SECRETS

_Path = tuple[Any, ...]


@cache
def naming_mistakes(model: type[BaseModel]) -> type[BaseModel]:
    """The model of a component's attributes, whose errors name what is wrong and show no secret."""
    return create_model(model.__name__, __base__=(_Attributes, model), __doc__=model.__doc__)


class _Attributes(BaseModel):
    @model_validator(mode="wrap")
    @classmethod
    def _name_mistakes(cls, attributes: Any, validate: Any) -> Any:
        errors = [_unknown_key(*found) for found in _unknown_keys(attributes, cls, ())]
        if not errors:
            try:
                return validate(attributes)
            except ValidationError as error:
                errors = list(_mistakes(error, attributes))
        raise ValidationError.from_exception_data(cls.__name__, errors)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The schema for `dg check yaml`."""
        return _with_keys_beside(super().model_json_schema(*args, **kwargs))


def _unknown_keys(
    value: Any, annotation: Any, path: _Path
) -> Iterator[tuple[_Path, type[BaseModel]]]:
    """The paths of keys that a model does not have, and the model."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown_keys(item, annotation, (*path, number))
    if not isinstance(value, Mapping):
        return
    models = [model for model in _models(annotation) if _is_meant(model, value)]
    if len(models) != 1:
        return
    [model] = models
    for key, item in value.items():
        if key in model.model_fields:
            yield from _unknown_keys(item, model.model_fields[key].annotation, (*path, key))
        else:
            yield (*path, key), model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, which may be a union, or a list of them."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif not (isinstance(origin, type) and issubclass(origin, Mapping)):  # its keys are anybody's
        for argument in get_args(annotation):
            yield from _models(argument)


def _is_meant(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    """Whether a value is of a model, where several tell themselves apart by their `type`."""
    field = model.model_fields.get("type")
    if field is None or get_origin(field.annotation) is not Literal:
        return True
    return value.get("type", field.default) in get_args(field.annotation)


def _unknown_key(path: _Path, model: type[BaseModel]) -> InitErrorDetails:
    key, known = str(path[-1]), list(model.model_fields)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    advice = f"Did you mean `{nearest[0]}`?" if nearest else f"There are {', '.join(known)}."
    mistake = ValueError(f"There is no key `{key}` here. {advice}")
    return InitErrorDetails(type="value_error", loc=path, input=key, ctx={"error": mistake})


def _mistakes(error: ValidationError, attributes: Any) -> Iterator[InitErrorDetails]:
    """The errors of pydantic, without the alternatives that nobody meant."""
    places = [(each, *_place(each["loc"], attributes)) for each in error.errors()]
    found = {(path, each["type"]): (each, path, value) for each, path, value in places}.values()
    paths = {path for _, path, _ in found}
    meant = {path for each, path, value in found if not _wants_template(each, value)}
    for each, path, value in found:
        is_within = any(other != path and other[: len(path)] == path for other in paths)
        if _wants_template(each, value) and (is_within or path in meant):
            continue
        # What holds other values may hold a key.
        is_secret = isinstance(each["input"], (Mapping, list)) or not SECRETS.keys().isdisjoint(
            path
        )
        details = InitErrorDetails(
            type=each["type"],
            loc=(*path, each["loc"][-1]) if each["type"] == "missing" else path,
            input="..." if is_secret else each["input"],
        )
        if "ctx" in each:
            details["ctx"] = each["ctx"]
        yield details


def _wants_template(error: Any, value: Any) -> bool:
    """Whether no more is wrong with an object or a list than that it is no template."""
    return error["type"] == "string_type" and isinstance(value, (Mapping, list))


def _place(loc: _Path, value: Any) -> tuple[_Path, Any]:
    """The keys of a path that are in the YAML, and what is there; pydantic adds names of types."""
    path: _Path = ()
    for part in loc:
        is_key = isinstance(value, Mapping) and part in value
        if is_key or (isinstance(value, list) and isinstance(part, int)):
            path, value = (*path, part), value[part]
    return path, value


def _with_keys_beside(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema that says which keys an object has beside its alternatives, not within."""
    models = schema.get("$defs", {})

    def beside(field: dict[str, Any]) -> dict[str, Any]:
        """What holds of a value that is an object or a list, whatever else it may be."""
        alternatives = field.get("anyOf", [field])
        names = [each["$ref"].rpartition("/")[2] for each in alternatives if "$ref" in each]
        items = next((each["items"] for each in alternatives if "items" in each), None)
        rules: dict[str, Any] = {}
        if len(names) == 1:
            rules = keys(models[names[0]])
        elif names:  # which of them it is, its `type` tells
            rules["allOf"] = [
                {"if": {"properties": {"type": kind}, "required": ["type"]}, "then": keys(model)}
                for model in (models[name] for name in names)
                if "const" in (kind := model.get("properties", {}).get("type", {}))
            ]
        return rules | ({"items": beside(items)} if items else {})

    def keys(model: dict[str, Any]) -> dict[str, Any]:
        if model.get("additionalProperties") is not False:
            return {}
        return {
            "properties": {name: beside(field) for name, field in model["properties"].items()},
            "additionalProperties": False,
            "required": model.get("required", []),
        }

    rules = {name: beside(field) for name, field in schema.get("properties", {}).items()}
    for model in models.values():
        if model.get("additionalProperties") is False:
            model["additionalProperties"] = True
            model.pop("required", None)
    for name, rule in rules.items():
        schema["properties"][name].update(rule)
    return schema
