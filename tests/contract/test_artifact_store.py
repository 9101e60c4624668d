"""One contract for every place of the artifact store: a directory, and real S3 servers.

MinIO, Versity S3 Gateway and SeaweedFS are started where `make servers` could get them. Any other
S3 endpoint is tested where the environment names it, for example
PLUMBLINE_TEST_S3=https://access_key:secret_key@s3.example.com?ca=/etc/ca.pem
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from object_stores import S3Server, named_server

from plumbline.core.artifacts import ArtifactStore, Lineage, open_store
from plumbline.core.artifacts.backend import ObjectBackend
from plumbline.core.artifacts.file_backend import FileBackend
from plumbline.core.artifacts.manifest import canonical_json
from plumbline.core.artifacts.s3_backend import PART_BYTES, S3Backend, _part_bytes
from plumbline.core.errors import (
    ConflictError,
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PlumblineError,
)
from plumbline.core.settings import Settings

IMPORTED = Lineage(stage="import")
KEY = hashlib.sha256(b"some stage").hexdigest()


@dataclass(frozen=True)
class Place:
    """A store, what lies beneath it, and how to open it once more."""

    url: str
    settings: Settings
    root: Path
    backend: ObjectBackend

    def open(self, cache: str = "cache", cache_bytes: int = 2**30) -> ArtifactStore:
        return open_store(
            self.url,
            cache_dir=self.root / cache,
            cache_bytes=cache_bytes,
            settings=self.settings,
        )

    def alter(self, key: str, data: bytes) -> None:
        """Change stored bytes as a faulty disk or an intruder would."""
        self.backend.put(key, data, sha256=hashlib.sha256(data).hexdigest())


SERVERS = ("minio", "versitygw", "seaweedfs", *(("named",) if named_server() else ()))


@pytest.fixture(
    params=["file", *(pytest.param(name, marks=pytest.mark.integration) for name in SERVERS)]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "file":
        backend: ObjectBackend = FileBackend(tmp_path / "store")
        yield Place(f"file://{tmp_path}/store", Settings(), tmp_path, backend)
        return
    server: S3Server = request.getfixturevalue("s3_servers")(request.param)
    bucket = request.getfixturevalue("s3_bucket")
    backend = S3Backend(bucket, "some/prefix", access=server.access)
    yield Place(f"s3://{bucket}/some/prefix", server.settings(tmp_path), tmp_path, backend)


@pytest.fixture
def store(place: Place) -> ArtifactStore:
    return place.open()


def file_key(artifact_id: str, content: bytes) -> str:
    return f"artifacts/{artifact_id}/files/{hashlib.sha256(content).hexdigest()}"


def test_id_is_the_digest_of_the_canonical_manifest(store: ArtifactStore) -> None:
    artifact = store.put("corpus", {"a.txt": b"abc"}, lineage=IMPORTED, metrics={"rows": 1})
    expected = canonical_json(
        {
            "format": 1,
            "kind": "corpus",
            "files": [
                {
                    "name": "a.txt",
                    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                    "size_bytes": 3,
                    "media_type": "text/plain",
                }
            ],
            "lineage": {"stage": "import", "version": 1, "config": {}, "inputs": {}},
            "metrics": {"rows": 1.0},
            "published": {},
        }
    )
    assert artifact.id == hashlib.sha256(expected).hexdigest()
    assert store.get(artifact.id) == artifact


def test_run_info_is_kept_beside_and_does_not_change_the_id(store: ArtifactStore) -> None:
    first = store.put("corpus", {"a": b"x"}, lineage=IMPORTED, run_info={"host": "one"})
    second = store.put("corpus", {"a": b"x"}, lineage=IMPORTED, run_info={"host": "two"})
    assert first.id == second.id
    assert store.run_info(first.id) == {"host": "one"}


def test_directory_comes_back_file_by_file(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep/er").mkdir(parents=True)
    (source / "a.json").write_bytes(b"{}")
    (source / "deep/er/b.bin").write_bytes(bytes(range(256)) * 5000)
    (source / "deep/empty").write_bytes(b"")
    artifact = store.put("policy", source, lineage=IMPORTED)
    path = store.materialise(artifact.id)
    found = {
        item.relative_to(path).as_posix(): item.read_bytes()
        for item in path.rglob("*")
        if item.is_file()
    }
    assert found == {
        "a.json": b"{}",
        "deep/er/b.bin": bytes(range(256)) * 5000,
        "deep/empty": b"",
    }
    assert store.read_bytes(artifact.id, "a.json") == b"{}"


def test_what_does_not_exist_is_not_found(store: ArtifactStore) -> None:
    artifact = store.put("corpus", {"a": b"x"}, lineage=IMPORTED)
    with pytest.raises(NotFoundError, match="no artifact"):
        store.get("0" * 64)
    with pytest.raises(NotFoundError, match="no tag corpus/none@latest"):
        store.get("corpus/none")
    with pytest.raises(NotFoundError, match="no file 'b'; it has: a"):
        store.read_bytes(artifact.id, "b")
    with pytest.raises(NotFoundError):
        store.tag("corpus/x", "0" * 64)


def test_upload_that_was_cut_off_is_invisible_and_can_be_completed(
    store: ArtifactStore, place: Place
) -> None:
    whole = store.put("corpus", {"a": b"one", "b": b"two"}, lineage=IMPORTED)
    place.backend.delete(f"artifacts/{whole.id}/manifest.json")  # as before the last step
    place.backend.delete(file_key(whole.id, b"two"))
    with pytest.raises(NotFoundError):
        store.get(whole.id)
    assert store.list().artifacts == ()
    assert store.put("corpus", {"a": b"one", "b": b"two"}, lineage=IMPORTED).id == whole.id
    assert (store.materialise(whole.id) / "b").read_bytes() == b"two"


@pytest.mark.parametrize("altered", [b"thrEe", b"much longer than three", b""])
def test_altered_file_is_refused(store: ArtifactStore, place: Place, altered: bytes) -> None:
    artifact = store.put("corpus", {"a": b"three"}, lineage=IMPORTED)
    place.alter(file_key(artifact.id, b"three"), altered)
    with pytest.raises(CorruptArtifactError, match="'a' of artifact"):
        store.materialise(artifact.id)
    with pytest.raises(CorruptArtifactError, match="altered"):
        store.read_bytes(artifact.id, "a")
    assert list((place.root / "cache/entries").iterdir()) == []


def test_missing_file_is_data_loss_not_absence(store: ArtifactStore, place: Place) -> None:
    artifact = store.put("corpus", {"a": b"three"}, lineage=IMPORTED)
    place.backend.delete(file_key(artifact.id, b"three"))
    with pytest.raises(CorruptArtifactError, match="missing from the store"):
        store.materialise(artifact.id)
    with pytest.raises(CorruptArtifactError, match="missing from the store"):
        store.read_bytes(artifact.id, "a")


def test_altered_manifest_is_refused(store: ArtifactStore, place: Place) -> None:
    artifact = store.put("corpus", {"a": b"x"}, lineage=IMPORTED)
    forged = artifact.manifest.to_bytes().replace(b'"corpus"', b'"policy"')
    place.alter(f"artifacts/{artifact.id}/manifest.json", forged)
    with pytest.raises(CorruptArtifactError, match="altered"):
        store.get(artifact.id)


def test_verify_reads_past_the_cache(store: ArtifactStore, place: Place) -> None:
    artifact = store.put("corpus", {"a": b"three"}, lineage=IMPORTED)
    store.materialise(artifact.id)
    assert store.verify(artifact.id) == artifact
    place.alter(file_key(artifact.id, b"three"), b"thrEe")
    with pytest.raises(CorruptArtifactError):
        store.verify(artifact.id)


def test_concurrent_puts_of_one_content_publish_one_artifact(place: Place) -> None:
    def put(number: int) -> str:
        store = place.open(cache=f"cache-{number}")
        return store.put("corpus", {"a": b"same" * 1000}, lineage=IMPORTED).id

    with ThreadPoolExecutor(5) as pool:
        ids = set(pool.map(put, range(5)))
    assert len(ids) == 1
    assert [item.id for item in place.open().list().artifacts] == list(ids)


def test_tag_moves_only_from_where_it_was_expected(store: ArtifactStore) -> None:
    first = store.put("corpus", {"a": b"1"}, lineage=IMPORTED).id
    second = store.put("corpus", {"a": b"2"}, lineage=IMPORTED).id
    store.tag("corpus/mine", first, expected=None)
    assert store.resolve("corpus/mine@latest") == first
    with pytest.raises(ConflictError, match="expected nothing"):
        store.tag("corpus/mine", second, expected=None)
    with pytest.raises(ConflictError, match=f"names {first}, expected {second}"):
        store.tag("corpus/mine", second, expected=second)
    store.tag("corpus/mine", second, expected=first)
    store.tag("corpus/mine@v1", first)
    store.tag("corpus/mine", second)  # once more changes nothing
    assert store.tags() == {"corpus/mine@latest": second, "corpus/mine@v1": first}
    store.untag("corpus/mine@v1")
    assert store.tags() == {"corpus/mine@latest": second}


def test_one_of_many_concurrent_taggers_wins(place: Place) -> None:
    """Each of 6 expects the tag to be absent; compare-and-set lets exactly one through."""
    store = place.open()
    ids = [store.put("corpus", {"a": bytes([n])}, lineage=IMPORTED).id for n in range(6)]

    def tag(artifact_id: str) -> bool:
        try:
            place.open().tag("corpus/race", artifact_id, expected=None)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(tag, ids))
    assert won.count(True) == 1
    assert store.resolve("corpus/race") == ids[won.index(True)]


def test_first_recorded_output_stands_while_its_artifact_does(store: ArtifactStore) -> None:
    first = store.put("corpus", {"a": b"1"}, lineage=IMPORTED).id
    second = store.put("corpus", {"a": b"2"}, lineage=IMPORTED).id
    assert store.find_output(KEY) is None
    assert store.record_output(KEY, first) == first
    assert store.record_output(KEY, second) == first
    assert store.find_output(KEY) == first
    store.delete(first)
    assert store.find_output(KEY) is None
    assert store.record_output(KEY, second) == second


def test_listing_pages_through_everything_once(store: ArtifactStore) -> None:
    ids = {store.put("corpus", {"a": bytes([n])}, lineage=IMPORTED).id for n in range(7)}
    other = store.put("policy", {"a": b"x"}, lineage=IMPORTED).id
    seen: list[str] = []
    token = ""
    while True:
        page = store.list(kind="corpus", page_size=3, page_token=token)
        assert len(page.artifacts) <= 3
        seen += [artifact.id for artifact in page.artifacts]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(ids)
    assert {artifact.id for artifact in store.list().artifacts} == ids | {other}
    with pytest.raises(InvalidInputError, match="page_size is -1"):
        store.list(page_size=-1)
    with pytest.raises(InvalidInputError, match="did not come from a listing"):
        store.list(page_token="../../x")


def test_lineage_reaches_every_ancestor(store: ArtifactStore) -> None:
    """raw -> clean -> policy, and raw -> policy: three nodes, three edges."""
    raw = store.put("corpus", {"a": b"raw"}, lineage=IMPORTED).id
    clean = store.put(
        "corpus", {"a": b"clean"}, lineage=Lineage(stage="curate", inputs={"corpus": (raw,)})
    ).id
    policy = store.put(
        "policy",
        {"a": b"weights"},
        lineage=Lineage(stage="train", inputs={"data": (clean,), "extra": (raw,)}),
    ).id
    graph = store.lineage(policy)
    assert set(graph.nodes) == {raw, clean, policy}
    assert set(graph.edges) == {
        (clean, "data", policy),
        (raw, "extra", policy),
        (raw, "corpus", clean),
    }
    store.delete(raw)
    assert store.lineage(policy).nodes[raw] is None


def test_deleting_spares_what_a_tag_names(store: ArtifactStore, place: Place) -> None:
    artifact = store.put("corpus", {"a": b"x"}, lineage=IMPORTED)
    store.tag("corpus/kept", artifact.id)
    with pytest.raises(FailedPreconditionError, match="corpus/kept@latest"):
        store.delete(artifact.id)
    store.untag("corpus/kept")
    store.delete(artifact.id)
    assert list(place.backend.keys("artifacts/")) == []


def test_checkpoints_keep_the_newest_two_complete_ones(
    store: ArtifactStore, place: Place, tmp_path: Path
) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    assert store.checkpoints.newest(KEY, tmp_path / "none") is None
    for step in (1, 2, 3):
        (source / "state.json").write_text(json.dumps({"step": step}))
        store.checkpoints.put(KEY, step, source)
    assert store.checkpoints.steps(KEY) == [3, 2]

    # A checkpoint cut off before its manifest is not found; a damaged one is passed over.
    place.backend.delete(f"checkpoints/{KEY}/{3:012d}/manifest.json")
    found = store.checkpoints.newest(KEY, tmp_path / "resumed")
    assert found is not None and found[1] == 2
    assert json.loads((found[0] / "state.json").read_text()) == {"step": 2}
    digest = hashlib.sha256(b'{"step": 2}').hexdigest()
    place.alter(f"checkpoints/{KEY}/{2:012d}/files/{digest}", b'{"step": 9}')
    assert store.checkpoints.newest(KEY, tmp_path / "resumed") is None

    store.checkpoints.delete(KEY)
    assert list(place.backend.keys("checkpoints/")) == []


def test_as_many_checkpoints_stay_as_are_to_be_kept(
    store: ArtifactStore, place: Place, tmp_path: Path
) -> None:
    source = tmp_path / "checkpoint"
    source.mkdir()
    for step, keep in ((1, 3), (2, 3), (3, 3), (4, 3)):
        (source / "state.json").write_text(json.dumps({"step": step}))
        store.checkpoints.put(KEY, step, source, keep=keep)
    assert store.checkpoints.steps(KEY) == [4, 3, 2]

    store.checkpoints.put(KEY, 5, source, keep=1)
    assert store.checkpoints.steps(KEY) == [5]
    kept = list(place.backend.keys(f"checkpoints/{KEY}/"))
    assert all(f"/{5:012d}/" in name for name in kept)
    with pytest.raises(InvalidInputError, match="keep=0"):
        store.checkpoints.put(KEY, 6, source, keep=0)


def test_changed_while_stored_is_refused_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "changing"
    source.write_bytes(b"now")
    with pytest.raises(CorruptArtifactError, match="changed while"):
        place.backend.put("artifacts/x", source, sha256=hashlib.sha256(b"before").hexdigest())
    assert place.backend.size_bytes("artifacts/x") is None


def test_conditional_write_sees_versions(place: Place) -> None:
    backend = place.backend
    first = backend.put_if("tags/t@1", b"one", expected=None)
    with pytest.raises(ConflictError, match="exists already"):
        backend.put_if("tags/t@1", b"two", expected=None)
    second = backend.put_if("tags/t@1", b"two", expected=first)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        backend.put_if("tags/t@1", b"three", expected=first)
    assert backend.get("tags/t@1") == (b"two", second)
    backend.delete("tags/t@1")
    with pytest.raises(ConflictError):
        backend.put_if("tags/t@1", b"three", expected=second)
    backend.delete("tags/t@1")  # absent is fine


@pytest.mark.parametrize("absent", [True, False])
def test_one_of_many_concurrent_conditional_writes_wins(place: Place, absent: bool) -> None:
    """8 writers that expect the same version: one is let through, and what it wrote is there."""
    version = None if absent else place.backend.put_if("tags/t@1", b"before", expected=None)

    def write(number: int) -> bool:
        try:
            place.backend.put_if("tags/t@1", b"%d" % number, expected=version)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert place.backend.get("tags/t@1")[0] == b"%d" % won.index(True)


def test_listing_goes_on_past_a_page_of_the_server(place: Place) -> None:
    """S3 servers list 1,000 keys at a time; 1,100 names, each with one key below it."""
    names = [f"{number:04d}" for number in range(1100)]
    put_all(place.backend, [f"x/{name}/y" for name in names])

    assert list(place.backend.keys("x/")) == [f"x/{name}/y" for name in names]
    assert list(place.backend.children("x/")) == names
    assert list(place.backend.children("x/", after="0998")) == names[999:]


@pytest.mark.slow
def test_listing_of_ten_thousand_keys(place: Place) -> None:
    keys = [f"artifacts/{number:05d}" for number in range(10_000)]
    put_all(place.backend, keys)

    assert list(place.backend.keys("artifacts/")) == keys


def put_all(backend: ObjectBackend, keys: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        # One request each, where `put` would look at what it has stored.
        list(pool.map(lambda key: backend.put_if(key, b"", expected=None), keys))


def test_file_in_several_parts_comes_back_whole(place: Place, tmp_path: Path) -> None:
    """One part and a bit: 64 MiB + 1 byte takes the multi-part path of S3."""
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(PART_BYTES)
        file.seek(0, os.SEEK_END)
        file.write(b"!")
    store = place.open()
    artifact = store.put("policy", {"model.safetensors": source}, lineage=IMPORTED)
    with store.pinned(artifact.id) as path:
        assert (path / "model.safetensors").stat().st_size == PART_BYTES + 1


def test_part_size_stays_within_what_s3_accepts() -> None:
    """S3 takes 10,000 parts: 1 TiB / 10,000 = 104.86 MiB, so parts of 105 MiB."""
    assert _part_bytes(0) == PART_BYTES
    assert _part_bytes(10_000 * PART_BYTES) == PART_BYTES
    assert _part_bytes(2**40) == 105 * 2**20


@pytest.mark.parametrize(
    "name", ["../escape", "/etc/passwd", "a/../../b", "a%2e%2e/b", "a\0b", "fi\uff0fle", ""]
)
def test_hostile_names_write_nothing(store: ArtifactStore, place: Place, name: str) -> None:
    with pytest.raises(InvalidInputError):
        store.put("corpus", {name: b"x"}, lineage=IMPORTED)
    with pytest.raises(InvalidInputError):
        store.tag(f"{name}@latest" if name else "", "0" * 64)
    with pytest.raises(PlumblineError):
        store.materialise(name)
    assert list(place.backend.keys("artifacts/")) == []
    assert list(place.backend.keys("tags/")) == []
