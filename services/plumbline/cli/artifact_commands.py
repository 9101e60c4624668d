"""`artifacts`: put into the store, look at, copy and verify what it holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import Json, emit, load_settings, say, short, show_table
from plumbline.core.errors import AlreadyExistsError, InvalidInputError

if TYPE_CHECKING:
    from plumbline.core.artifacts import Artifact, ArtifactStore

Reference = Annotated[str, typer.Argument(help="An artifact id or a tag.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List, show, get, put and verify artifacts.", no_args_is_help=True)
    group.command("list")(list_artifacts)
    group.command("show")(show_artifact)
    group.command("get")(get_artifact)
    group.command("put")(put_artifact)
    group.command("verify")(verify_artifact)
    group.command("tag")(tag_artifact)
    app.add_typer(group, name="artifacts", rich_help_panel="Platform")


def list_artifacts(
    kind: Annotated[str | None, typer.Option(help="Only this kind, for example policy.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 50,
    json_output: Json = False,
) -> None:
    """List artifacts with their tags."""
    store = open_store()
    page = store.list(kind=kind, page_size=limit)
    tags = _tags_by_id(store)
    if json_output:
        emit([_describe(artifact, tags) for artifact in page.artifacts])
        return
    rows = [
        (
            short(artifact.id),
            artifact.kind,
            artifact.manifest.lineage.stage,
            _size(artifact.manifest.size_bytes),
            ", ".join(tags.get(artifact.id, ())),
        )
        for artifact in page.artifacts
    ]
    show_table(f"artifacts in {store.url}", ("id", "kind", "made by", "size", "tags"), rows)
    if page.next_page_token:
        say(f"there are more than {limit}; --limit shows them")


def show_artifact(reference: Reference, json_output: Json = False) -> None:
    """Show an artifact: files, metrics and where it came from."""
    store = open_store()
    artifact = store.get(reference)
    described = {
        **_describe(artifact, _tags_by_id(store)),
        "manifest": artifact.manifest.model_dump(mode="json"),
        "run_info": store.run_info(artifact.id),
    }
    if json_output:
        emit(described)
        return
    lineage = artifact.manifest.lineage
    facts = [
        ("id", artifact.id),
        ("kind", artifact.kind),
        ("tags", ", ".join(described["tags"])),
        ("made by", f"{lineage.stage} (version {lineage.version})"),
        *((f"input {name}", artifact_id) for name, artifact_id in lineage.input_ids()),
        *((f"config {name}", value) for name, value in sorted(lineage.config.items())),
        *((f"metric {name}", f"{v:.6g}") for name, v in artifact.manifest.metrics.items()),
        *((f"published {name}", f"{v:.6g}") for name, v in artifact.manifest.published.items()),
        *((f"file {file.name}", _size(file.size_bytes)) for file in artifact.manifest.files),
    ]
    show_table("", ("", ""), facts)


def get_artifact(
    reference: Reference,
    out: Annotated[Path, typer.Option("--out", "-o", help="A directory that is not there yet.")],
    json_output: Json = False,
) -> None:
    """Copy an artifact's files into a directory; every byte is verified."""
    artifact_id = copy_files(open_store(), reference, out)
    emit({"artifact": artifact_id, "directory": str(out)}) if json_output else say(str(out))


def put_artifact(
    path: Annotated[Path, typer.Argument(help="A file or a directory of this machine.")],
    kind: Annotated[str, typer.Option(help="What it is, for example policy or preferences.")],
    tag: Annotated[str | None, typer.Option(help="For example policy/mine@latest.")] = None,
    json_output: Json = False,
) -> None:
    """Store a local file or directory as an artifact; a job would take it in the same way."""
    from plumbline.core.artifacts import KINDS
    from plumbline.core.local_inputs import import_path

    if kind not in KINDS:
        raise InvalidInputError(f"kind {kind!r} is unknown; accepted: {', '.join(sorted(KINDS))}")
    store = open_store()
    artifact = import_path(f"path:{path.expanduser().absolute()}", [kind], store=store)
    if tag is not None:
        store.tag(tag, artifact.id)
    stored = {"artifact": artifact.id, "kind": artifact.kind, "tag": tag}
    emit(stored) if json_output else say(f"{artifact.kind} {artifact.id}")


def verify_artifact(reference: Reference, json_output: Json = False) -> None:
    """Read every byte of an artifact and compare it with the manifest."""
    artifact = open_store().verify(reference)
    if json_output:
        emit({"artifact": artifact.id, "verified": True})
    else:
        say(f"{artifact.id}: {len(artifact.manifest.files)} files verified")


def tag_artifact(
    reference: Reference,
    tag: Annotated[str, typer.Argument(help="For example policy/mine@latest.")],
    json_output: Json = False,
) -> None:
    """Point a tag at an artifact."""
    store = open_store()
    artifact = store.get(reference)
    store.tag(tag, artifact.id)
    emit({"artifact": artifact.id, "tag": tag}) if json_output else say(f"{tag} -> {artifact.id}")


def open_store() -> ArtifactStore:
    """The configured store."""
    from plumbline.core.artifacts import open_configured_store

    return open_configured_store(load_settings())


def copy_files(store: ArtifactStore, reference: str, directory: Path) -> str:
    """Copy an artifact's files to a new directory; its id.

    Raises:
        AlreadyExistsError: the directory holds something.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise AlreadyExistsError(f"{directory} exists and is not an empty directory")
    artifact_id = store.resolve(reference)
    with store.pinned(artifact_id) as source:
        shutil.copytree(source, directory, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in [directory, *directory.rglob("*")]:
        # The cache is read-only; the copy is the user's own.
        path.chmod(0o755 if path.is_dir() else 0o644)
    return artifact_id


def _tags_by_id(store: ArtifactStore) -> dict[str, list[str]]:
    by_id: dict[str, list[str]] = {}
    for tag, artifact_id in store.tags().items():
        by_id.setdefault(artifact_id, []).append(tag)
    return by_id


def _describe(artifact: Artifact, tags: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "kind": artifact.kind,
        "stage": artifact.manifest.lineage.stage,
        "size_bytes": artifact.manifest.size_bytes,
        "tags": tags.get(artifact.id, []),
    }


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
