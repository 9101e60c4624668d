"""What only the directory backend and the local cache can get wrong."""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from plumbline.core.artifacts import Artifact, ArtifactStore, Lineage, open_store
from plumbline.core.artifacts.disk import file_lock
from plumbline.core.artifacts.file_backend import FileBackend
from plumbline.core.errors import (
    ConfigError,
    ConflictError,
    InvalidInputError,
    StorageFullError,
    StorageUnavailableError,
)

IMPORTED = Lineage(stage="import")


def make_store(root: Path, cache_bytes: int = 2**30, cache: str = "cache") -> ArtifactStore:
    return open_store(f"file://{root}/store", cache_dir=root / cache, cache_bytes=cache_bytes)


def put(store: ArtifactStore, letter: str, size: int = 400) -> Artifact:
    return store.put("corpus", {"data": letter.encode() * size}, lineage=IMPORTED)


def cached(root: Path) -> set[str]:
    return {path.name for path in (root / "cache/entries").iterdir()}


@pytest.mark.parametrize(
    "url", ["/no/scheme", "file://host/dir", "file:relative", "http://x", "s3://", "s3:///a"]
)
def test_store_url_that_is_not_accepted(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"accepted: file:///directory or s3://bucket/prefix"):
        open_store(url, cache_dir=tmp_path, cache_bytes=0)


def test_store_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file is in the way")
    with pytest.raises(StorageUnavailableError, match="opening the store"):
        make_store(tmp_path)


def test_link_planted_in_the_store_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("hush")
    backend = FileBackend(tmp_path / "store")
    (tmp_path / "store/tags").symlink_to(tmp_path / "secret")
    (tmp_path / "store/link").symlink_to(tmp_path / "secret/key")
    for key in ("tags/key", "link"):
        with pytest.raises(InvalidInputError, match="symbolic link"):
            backend.get(key)
        with pytest.raises(InvalidInputError, match="symbolic link"):
            backend.put_if(key, b"x", expected=None)
        with pytest.raises(InvalidInputError, match="symbolic link"):
            backend.delete(key)
    assert (tmp_path / "secret/key").read_text() == "hush"


def test_linked_source_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InvalidInputError, match="symbolic link"):
        make_store(tmp_path).put("corpus", {"a": tmp_path / "link"}, lineage=IMPORTED)


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    """Bound 1000, entries of 400: after A, B, A again, C the one that went is B."""
    store = make_store(tmp_path, cache_bytes=1000)
    a, b, c = (put(store, letter).id for letter in "abc")
    for artifact_id in (a, b, a, c):
        store.materialise(artifact_id)
    assert cached(tmp_path) == {a, c}


def test_pinned_entry_stays_and_the_bound_holds_again_afterwards(tmp_path: Path) -> None:
    store = make_store(tmp_path, cache_bytes=500)
    a, b, c = (put(store, letter).id for letter in "abc")
    with store.pinned(a) as path:
        store.materialise(b)
        assert (path / "data").read_bytes() == b"a" * 400
        with store.pinned(a) as again:  # twice in one process does not lock itself out
            assert again == path
    store.materialise(c)
    assert cached(tmp_path) == {c}


def test_artifact_above_the_bound_is_still_served(tmp_path: Path) -> None:
    store = make_store(tmp_path, cache_bytes=0)
    with store.pinned(put(store, "a").id) as path:
        assert (path / "data").stat().st_size == 400


def test_cached_files_are_read_only_and_an_altered_one_is_replaced(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    artifact = put(store, "a")
    path = store.materialise(artifact.id) / "data"
    assert path.stat().st_mode & 0o777 == 0o444
    path.chmod(0o644)
    path.write_bytes(b"b" * 400)
    assert (store.materialise(artifact.id) / "data").read_bytes() == b"a" * 400


def _read_pinned(root: Path, ids: list[str], letters: str, rounds: int) -> None:
    store = make_store(root, cache_bytes=900)
    for number in range(rounds):
        index = (number * 7 + os.getpid()) % len(ids)
        with store.pinned(ids[index]) as path:
            content = (path / "data").read_bytes()
        if content != letters[index].encode() * 400:
            raise SystemExit(1)


def test_processes_that_share_a_full_cache_never_see_a_missing_file(tmp_path: Path) -> None:
    """Five artifacts, room for two, three processes: each read finds whole, right content."""
    store = make_store(tmp_path)
    letters = "abcde"
    ids = [put(store, letter).id for letter in letters]
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_read_pinned, args=(tmp_path, ids, letters, 40)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum(path.stat().st_size for path in (tmp_path / "cache/entries").rglob("data")) <= 1200


def test_lock_that_is_held_is_reported_after_the_wait(tmp_path: Path) -> None:
    with (
        file_lock(tmp_path / "lock", shared=True),
        file_lock(tmp_path / "lock", shared=True, timeout_s=0),
        pytest.raises(ConflictError, match=r"was not free within 0\.05 s"),
        file_lock(tmp_path / "lock", timeout_s=0.05),
    ):
        pass


def test_waiting_for_a_lock_ends_when_it_is_free(tmp_path: Path) -> None:
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with file_lock(tmp_path / "lock"):
            taken.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    threading.Timer(0.05, release.set).start()
    with file_lock(tmp_path / "lock", timeout_s=10):
        thread.join(10)
    assert not thread.is_alive()


def test_full_disk_publishes_nothing_and_leaves_room_for_the_next(
    limited_disk: Callable[[int], Path],
) -> None:
    disk = limited_disk(1)
    store = open_store(f"file://{disk}/store", cache_dir=disk / "cache", cache_bytes=2**30)
    with pytest.raises(StorageFullError, match="free some space"):
        store.put("corpus", {"a": b"x" * 100_000, "b": b"y" * 2_000_000}, lineage=IMPORTED)
    assert store.list().artifacts == ()
    assert list((disk / "store/.incoming").iterdir()) == []
    small = store.put("corpus", {"a": b"z" * 100_000}, lineage=IMPORTED)
    assert [artifact.id for artifact in store.list().artifacts] == [small.id]


def test_full_disk_under_the_cache_leaves_no_half_entry(
    limited_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    disk = limited_disk(1)
    store = open_store(f"file://{tmp_path}/store", cache_dir=disk / "cache", cache_bytes=2**30)
    artifact = put(store, "a", 2_000_000)
    with pytest.raises(StorageFullError):
        store.materialise(artifact.id)
    assert list((disk / "cache/entries").iterdir()) == []
    assert list((disk / "cache/incoming").iterdir()) == []


def _put_with_file_size_limit(root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        put(make_store(root), "a", 200_000)
    except StorageFullError:
        raise SystemExit(7) from None


def test_limit_on_file_size_counts_as_full(tmp_path: Path) -> None:
    """Runs wherever mounting is not allowed; Python ignores SIGXFSZ, so the write fails."""
    process = multiprocessing.get_context("fork").Process(
        target=_put_with_file_size_limit, args=(tmp_path,)
    )
    process.start()
    process.join(30)
    assert process.exitcode == 7
    assert make_store(tmp_path).list().artifacts == ()
    assert list((tmp_path / "store/.incoming").iterdir()) == []
