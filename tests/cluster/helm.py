"""Helm itself, against the tests' control plane."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "plumbline"
TIMEOUT_S = 300.0


class HelmError(Exception):
    """Helm's own words."""


class Helm:
    """Runs the program as one user; its caches are the tests' own."""

    def __init__(self, program: Path, kubeconfig: Path, directory: Path) -> None:
        self._program = program
        # Without a home its caches would lie wherever the tests were started.
        home = {"HOME": str(directory)}
        self._environment = {"PATH": os.defpath, "KUBECONFIG": str(kubeconfig), **home}
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, *arguments: str | Path) -> str:
        """What Helm prints.

        Raises:
            HelmError: it ended with another status than 0.
        """
        done = subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S + 60,
        )
        if done.returncode:
            raise HelmError(f"helm {arguments[0]}: {done.stderr.strip()}\n{done.stdout[-2000:]}")
        return done.stdout

    def install(self, release: str, namespace: str, *values: Path | dict[str, Any]) -> str:
        """Install the chart and wait until everything is ready."""
        return self._change("install", release, namespace, *values)

    def upgrade(self, release: str, namespace: str, *values: Path | dict[str, Any]) -> str:
        return self._change("upgrade", release, namespace, *values)

    def template(self, release: str, namespace: str, *values: Path | dict[str, Any]) -> str:
        """The manifests, rendered without a cluster."""
        # Without a server to ask, Helm takes its oldest known version of Kubernetes.
        options = ["--namespace", namespace, "--kube-version", "1.34.0", *self._files(values)]
        return self("template", release, CHART, *options)

    def status(self, release: str, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self("status", release, "--namespace", namespace, "--output", "json")
        )
        return found

    def manifest(self, release: str, namespace: str) -> list[dict[str, Any]]:
        """Objects of the release as it is installed, without hooks."""
        text = self("get", "manifest", release, "--namespace", namespace)
        return [document for document in yaml.safe_load_all(text) if document]

    def _change(
        self, verb: str, release: str, namespace: str, *values: Path | dict[str, Any]
    ) -> str:
        waiting = ["--wait", "--wait-for-jobs", "--timeout", f"{TIMEOUT_S:.0f}s"]
        options = ["--namespace", namespace, *waiting, *self._files(values)]
        return self(verb, release, CHART, *options)

    def _files(self, values: tuple[Path | dict[str, Any], ...]) -> list[str | Path]:
        options: list[str | Path] = []
        for number, one in enumerate(values):
            path = one
            if isinstance(one, dict):
                path = self._directory / f"values-{number}.yaml"
                path.write_text(yaml.safe_dump(one))
            options += ["--values", path]
        return options
