"""The chart as Helm's own engine renders it, and questions about the objects.

Helm comes from the `helm-python-sdk` wheel: the Go code of the `helm` program, called in this
process. No cluster is asked, so `lookup` finds nothing and every generated secret is a new one.
"""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "plumbline"
CI_FILES = tuple(sorted((CHART / "ci").glob("*.yaml")))
DEFAULTS = "defaults"
VALUE_FILES = (DEFAULTS, *(path.stem for path in CI_FILES))
"""What most tests are repeated for: values.yaml alone, and each file under ci/."""

SERVICES = ("curation", "sampler", "reward", "trainer", "retriever", "evaluation", "pipeline")
"""The gRPC services, written down apart from the code and the chart."""

RELEASE = "demo"
NAMESPACE = "values"

Object = Mapping[str, Any]
"""One Kubernetes object, as it stands in the manifest."""

_TEMPLATE_PATHS: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "ScaledJob": ("spec", "jobTargetRef", "template"),
}
"""Where an object of a kind holds the pods that it starts."""


@functools.cache
def helm() -> Any:
    """The module `helm_python`.

    Its wheels are for Linux and macOS on common processors; elsewhere the tests are skipped, but
    never in continuous integration.
    """
    try:
        import helm_python
    except ImportError as error:
        reason = f"Helm is missing: {error}; it comes with the wheel of helm-python-sdk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return helm_python


@dataclass(frozen=True)
class Pod:
    """A pod that an object of the chart starts, or is."""

    owner: str
    """`Kind/name` of that object."""
    metadata: Object
    spec: Object

    @property
    def labels(self) -> Mapping[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def containers(self) -> Sequence[Object]:
        """Init containers too."""
        return [*(self.spec.get("initContainers") or []), *self.spec["containers"]]

    @property
    def main(self) -> Object:
        found: Object = self.spec["containers"][0]
        return found

    def ports(self) -> Mapping[str, int]:
        """Numbers of the container ports by name; a port without a name goes by its number."""
        listed = [port for c in self.containers for port in c.get("ports") or []]
        return {
            port.get("name", str(port["containerPort"])): port["containerPort"] for port in listed
        }

    def environment(self) -> Mapping[str, Object]:
        """Entries of the main container's `env` by name."""
        return {entry["name"]: entry for entry in self.main.get("env") or []}


@dataclass(frozen=True)
class Rendered:
    """All objects of one release."""

    fullname: str
    """What the names of objects begin with."""
    values: Object
    """Merged as an installation merges them."""
    by_template: Mapping[str, Sequence[Object]]
    notes: str

    @property
    def objects(self) -> Sequence[Object]:
        return [entry for entries in self.by_template.values() for entry in entries]

    def of_kind(self, *kinds: str) -> Sequence[Object]:
        return [entry for entry in self.objects if entry["kind"] in kinds]

    def one(self, kind: str, component: str) -> Object:
        """The object of a kind that is named `<fullname>-<component>`."""
        found = self.find(kind, component)
        names = [entry["metadata"]["name"] for entry in self.of_kind(kind)]
        assert found is not None, f"no {kind} {component} among {names}"
        return found

    def find(self, kind: str, component: str) -> Object | None:
        """As `one`, or None."""
        name = f"{self.fullname}-{component}"
        named = [entry for entry in self.of_kind(kind) if entry["metadata"]["name"] == name]
        assert len(named) <= 1, f"{kind} {name} is there twice"
        return named[0] if named else None

    def pod(self, component: str) -> Pod:
        """The pod of a Deployment or StatefulSet."""
        found = [pod for pod in self.pods() if pod.component == component and not is_hook(pod)]
        assert len(found) == 1, f"{len(found)} pods of {component}: {[p.owner for p in found]}"
        return found[0]

    def pods(self) -> Sequence[Pod]:
        return [pod for entry in self.objects for pod in pods_of(entry)]


def pods_of(entry: Object) -> Iterator[Pod]:
    """The pod that an object starts, if it starts one."""
    owner = f"{entry['kind']}/{entry['metadata']['name']}"
    if entry["kind"] == "Pod":
        yield Pod(owner, entry["metadata"], entry["spec"])
    elif entry["kind"] in _TEMPLATE_PATHS:
        template = functools.reduce(lambda o, key: o[key], _TEMPLATE_PATHS[entry["kind"]], entry)
        yield Pod(owner, template.get("metadata") or {}, template["spec"])


def is_hook(entry: Object | Pod) -> bool:
    """Whether Helm starts it at `helm test` and not at `helm install`."""
    metadata = entry.metadata if isinstance(entry, Pod) else entry["metadata"]
    return "helm.sh/hook" in (metadata.get("annotations") or {})


def values_of(name: str) -> dict[str, Any]:
    """The values of one of VALUE_FILES; the defaults override nothing."""
    if name == DEFAULTS:
        return {}
    loaded: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text()) or {}
    return loaded


def override(values: Object, changes: Object) -> dict[str, Any]:
    """Values with changes on top, merged key by key as Helm merges files."""
    merged = copy.deepcopy(dict(values))
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = override(merged[key], value) if both else copy.deepcopy(value)
    return merged


def dotted(path: str, value: Any) -> dict[str, Any]:
    """`dotted("a.b", 1)` is {"a": {"b": 1}}."""
    return functools.reduce(lambda inner, key: {key: inner}, reversed(path.split(".")), value)


def render(
    base: str = DEFAULTS,
    changes: Object | None = None,
    *,
    release: str = RELEASE,
    again: bool = False,
) -> Rendered:
    """The objects of a release.

    Args:
        base: one of VALUE_FILES.
        changes: on top of it.
        again: render even if these values were rendered before.
    Raises:
        HelmError: the values are refused, by the schema or by a template.
    """
    values = override(values_of(base), changes or {})
    make = _render.__wrapped__ if again else _render
    return make(json.dumps(values, sort_keys=True), release)


def validate(values: Object) -> None:
    """Refuse what `helm install` would refuse for the schema's sake.

    Raises:
        HelmValuesError: says where and why.
    """
    loaded_chart().validate_schema(dict(values))


def refusal(values: Object) -> str:
    """What the schema says against values; empty where it accepts them."""
    try:
        validate(values)
    except helm().HelmValuesError as error:
        return str(error)
    return ""


@functools.cache
def loaded_chart() -> Any:
    return helm().Chart.load(CHART)


@functools.cache
def _render(values_json: str, release: str) -> Rendered:
    chart = loaded_chart()
    values = json.loads(values_json)
    texts: Mapping[str, str] = chart.render(values, name=release, namespace=NAMESPACE)
    return Rendered(
        fullname=release if "plumbline" in release else f"{release}-plumbline",
        values=chart.merge_values(values),
        by_template={
            path.partition("/templates/")[2]: _objects(text)
            for path, text in sorted(texts.items())
            if not path.endswith("NOTES.txt")
        },
        notes="".join(text for path, text in texts.items() if path.endswith("NOTES.txt")),
    )


def _objects(text: str) -> Sequence[Object]:
    return [entry for entry in yaml.load_all(text, Loader=_StrictLoader) if entry]


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that is given twice, as the API server's strict decoding does."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is given twice in {keys}{node.start_mark}"
        return super().construct_mapping(node, deep)
