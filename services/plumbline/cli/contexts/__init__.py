"""Contexts: which platform the command talks to, as kubectl has clusters.

`config` holds the file and its models, `settings` what a context means for this process's clients,
`release` a release of the chart on a Kubernetes cluster, `cluster_api` the calls to its API server,
`forwarding` ports that lead to pods, `release_place` how all of these make up a platform, `pods`
their logs and states, and `uploads` what becomes of local files.
"""

from __future__ import annotations

from typing import Final

CONTEXT_VARIABLE: Final = "PLUMBLINE_CONTEXT"
"""Name of the context in force; set by the option `--context`, and before what the file says."""
