"""Schemas of the services' configuration in values.schema.json, from the models that read it.

`python tests/charts/product_schemas.py` writes them anew after a model has changed; a test
compares. So a misspelt key is refused by `helm install`, not by a pod that does not start.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from plumbline.core.validation import FrozenConfig
from plumbline.curation.config import CurationConfig
from plumbline.openai_front.config import FrontConfig
from plumbline.retriever.config import RetrieverConfig

SCHEMA_FILE = Path(__file__).parents[2] / "charts" / "plumbline" / "values.schema.json"
MODELS: Mapping[str, type[BaseModel]] = {
    "services.curation": CurationConfig,
    "services.retriever": RetrieverConfig,
    "openaiFront": FrontConfig,
}
"""By the section of the values that holds it as `config`."""
_SET_ELSEWHERE = {FrontConfig: {"grace_s"}}
"""Follows from `shutdown` in the values."""
_DROPPED = {"title", "default", "format"}

Schema = dict[str, Any]


def definitions() -> dict[str, Schema]:
    """What the models come to, by the name under `$defs`."""
    found: dict[str, Schema] = {}
    for model in MODELS.values():
        whole = model.model_json_schema()
        parts = {model.__name__: whole, **whole.pop("$defs", {})}
        found |= {_name(name): _described(name, part) for name, part in parts.items()}
    return found


def with_definitions(schema: Schema) -> Schema:
    """values.schema.json with the definitions in it as they should be."""
    kept = {n: part for n, part in schema["$defs"].items() if not n.startswith("config.")}
    for path, model in MODELS.items():
        section = functools.reduce(lambda o, key: o["properties"][key], path.split("."), schema)
        section["properties"]["config"] = {"$ref": f"#/$defs/{_name(model.__name__)}"}
    return {**schema, "$defs": dict(sorted({**kept, **definitions()}.items()))}


def _name(model: str) -> str:
    return f"config.{model}"


def _described(name: str, part: Schema) -> Schema:
    if "properties" not in part:  # an enumeration
        return _plain(part)
    model = _models()[name]
    words = _docstrings(model)
    omitted = _SET_ELSEWHERE.get(model, set())
    properties = {
        field: {"description": words.get(field) or f"`{field}` of {name}", **_plain(given)}
        for field, given in part["properties"].items()
        if field not in omitted
    }
    described = {**_plain(part), "description": inspect.getdoc(model) or name}
    return {**described, "additionalProperties": False, "properties": properties}


def _plain(given: Any) -> Any:
    """A piece of schema without what the chart's does not say, and with its references."""
    if isinstance(given, list):
        return [_plain(item) for item in given]
    if not isinstance(given, Mapping):
        return given
    if "$ref" in given:
        return {"$ref": f"#/$defs/{_name(given['$ref'].rpartition('/')[2])}"}
    return {key: _plain(value) for key, value in given.items() if key not in _DROPPED}


@functools.cache
def _models() -> Mapping[str, type[BaseModel]]:
    def below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for other in model.__subclasses__():
            yield from below(other)

    return {model.__name__: model for model in below(FrozenConfig)}


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The strings below fields, by field."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[field.target.id] = " ".join(text.value.split())
    return found


def main() -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    text = json.dumps(with_definitions(schema), indent=2, ensure_ascii=False)
    SCHEMA_FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
