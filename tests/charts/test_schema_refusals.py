"""Mistakes that users make in values, each refused by the schema with its path.

test_schema.py makes mistakes of two kinds in every value; these are the others: misspelt keys where
nothing stands by default, numbers out of range, words that are not of the list, texts of the wrong
form, and what is wrong inside of lists.
"""

from __future__ import annotations

import pytest
import yaml
from charts.rendering import dotted, refusal

MISSPELT = """
image.registery: reg.example.com
nodePools.cpu.nodeSelectors: {a: b}
podDefaults.replica: 2
podDefaults.resource: {}
podDefaults.resources.limit: {memory: 1Gi}
podDefaults.probes.readyness: {}
podDefaults.shutdown.graceSecond: 3
services.samplers: {enabled: true}
services.sampler.autoScaling: {enabled: true}
services.sampler.autoscaling.maxReplica: 3
services.sampler.openai.baseURL: https://example.com
services.sampler.image.repo: a/b
services.retriever.qdrant.uri: http://q
services.retriever.config.serach: {k: 3}
services.retriever.config.search.topk: 3
services.curation.config.length.min_unit: 3
openaiFront.ingress.hosts: [a]
workers.training.queue: [training]
workers.training.keda.kinds: ScaledJob
workers.own.cpu: 1
workerDefaults.liveness.maxPollAge: 3
launcher.pool: {}
launcher.pools.big.nodePools: gpu
launcher.patience.unschedulableSecond: 3
launcher.kueue.queue: q
valkey.persistence.sizes: 1Gi
valkey.password: secret
externalRedis.url: redis://r
objectStore.bucketName: b
externalObjectStore.accessKey: AKIA
externalObjectStore.tls: {}
triton.rewardModel: []
auth.token: secret
tls.certmanager: {}
tls.certManager.issuer: {name: a}
networkPolicy.client: []
podSecurityContext.runAsRoot: true
securityContext.privilege: true
priorityClass.classes.urgent.values: 3
metrics.monitors.intervals: 3s
metrics.rule: {}
tests.enable: false
tracing.endpoint: http://c
"""
"""Path of a key that does not exist: the message names it, and where it stands."""

OUT_OF_PLACE = """
nameOverride: Upper_Case
fullnameOverride: -dash
image.pullPolicy: Sometimes
image.tag: "a b"
clusterDomain: "cluster local"
global.imagePullSecrets: [Not_A_Name]
podDefaults.replicas: -1
podDefaults.gpus: -1
podDefaults.gpus: 0.5
podDefaults.threads: 0
podDefaults.resources.limits.memory: lots
podDefaults.resources.requests.cpu: -1
podDefaults.state.cacheBytes: -1
podDefaults.state.sizeLimit: 8GB
podDefaults.image.digest: sha256:short
podDefaults.service.type: ExternalName
podDefaults.podLabels: {a: 1}
podDefaults.podDisruptionBudget.maxUnavailable: some
podDefaults.shutdown.drainSeconds: -5
podDefaults.probes.liveness.failureThreshold: 0
podDefaults.autoscaling.maxReplicas: 0
podDefaults.tolerations: [{key: a, operator: Exist}]
podDefaults.tolerations: [{key: a, effects: NoSchedule}]
podDefaults.topologySpreadConstraints: [{maxSkew: 0}]
podDefaults.topologySpreadConstraints: [{maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]
podDefaults.extraEnv: [{name: 1A, value: x}]
podDefaults.extraEnv: [{name: A, value: 1}]
podDefaults.extraEnv: [{name: A, values: x}]
podDefaults.extraVolumes: [{emptyDir: {}}]
podDefaults.extraVolumeMounts: [{name: a}]
nodePools.gpu.gpuResourceKey: gpu
nodePools.Own: {}
services.sampler.enabled: "yes"
services.sampler.backend: vllm
services.sampler.openai.baseUrl: models.example.com
services.retriever.config.search.k: 0
openaiFront.ingress.host: "https://a.example.com/"
workers.training.queues: [trainings]
workers.training.queues: training
workers.training.concurrency: 0
workers.Own_Group: {enabled: true}
workers.training.keda.kind: Deployment
launcher.executor: slurm
launcher.pools.default.gpusPerRank: -1
launcher.ttlSeconds: 59
launcher.extraEnvironment: [{value: x}]
valkey.maxMemory: 1 GB
valkey.persistence.size: big
valkey.persistence.accessModes: [ReadWrite]
externalRedis.port: 70000
externalRedis.database: -1
externalRedis.existingSecret: Not_A_Name
objectStore.bucket: UPPER
externalObjectStore.endpoint: s3.example.com
externalObjectStore.bucket: a
triton.rewardModels: [{reference: a@latest, head: kindness}]
triton.rewardModels: [{head: safety}]
triton.externalTarget: "http://t:8001"
auth.grants: [{name: a, tokenSha256: short, scopes: ["*"]}]
auth.grants: [{name: a, tokenSha256: "DIGEST", scopes: []}]
auth.grants: [{name: a, tokenSha256: "DIGEST", scopes: [all]}]
tls.mode: mutual
networkPolicy.clients: [{podSelectors: {}}]
networkPolicy.dns.ports: [0]
networkPolicy.external: [{ipBlock: {cidr: everywhere}}]
podSecurityContext.runAsNonRoot: false
podSecurityContext.runAsUser: 0
podSecurityContext.seccompProfile.type: Unconfined
securityContext.allowPrivilegeEscalation: true
securityContext.capabilities.add: [SYS_ADMIN]
priorityClass.classes.serving.value: 2000000000
priorityClass.classes.serving.preemptionPolicy: Always
metrics.monitors.interval: often
tracing.otlpEndpoint: collector:4317
trackers.names: [neptune]
tests.timeoutSeconds: 0
"""
"""Path of a value that is not accepted: the message names the value's place."""

DIGEST = "0" * 64


def entries(table: str) -> list[tuple[str, str]]:
    """(path, value in YAML) of each line."""
    return [
        tuple(line.replace("DIGEST", DIGEST).split(": ", 1)) for line in table.strip().splitlines()
    ]  # type: ignore[misc]


@pytest.mark.parametrize(("path", "value"), entries(MISSPELT), ids=lambda text: text[:60])
def test_a_misspelt_key_is_refused(path: str, value: str) -> None:
    message = refusal(dotted(path, yaml.safe_load(value)))

    *parents, key = path.split(".")
    assert f"at '/{'/'.join(parents)}" in message, message
    assert f"'{key}'" in message, message


@pytest.mark.parametrize(("path", "value"), entries(OUT_OF_PLACE), ids=lambda text: text[:60])
def test_a_value_that_is_not_accepted_is_refused(path: str, value: str) -> None:
    message = refusal(dotted(path, yaml.safe_load(value)))

    assert f"at '/{path.replace('.', '/')}" in message or _blames_name(message, path), message


def _blames_name(message: str, path: str) -> bool:
    """Names in a map of names are blamed on the map."""
    *parents, name = path.split(".")
    return f"at '/{'/'.join(parents)}'" in message and f"'{name}'" in message


def test_there_are_enough_mistakes() -> None:
    assert len(entries(MISSPELT)) + len(entries(OUT_OF_PLACE)) >= 100
