{{/*
The launcher's configuration file: `plumbline.launcher.config.LauncherConfig`, so its keys are in
snake case.
*/}}
{{- define "plumbline.launcher.config" -}}
{{- $launcher := .Values.launcher -}}
{{- $training := dict "root" . "component" "training" "broker" true "store" true -}}
{{- $variables := include "plumbline.connections.environment" $training | fromYamlArray -}}
{{- $files := include "plumbline.connections.files" $training | fromYamlArray -}}
{{- if has "curation" (include "plumbline.launcher.queues" . | fromYamlArray) -}}
{{- $variables = concat $variables (include "plumbline.pseudonyms.environment" . | fromYamlArray) -}}
{{- $files = concat $files (include "plumbline.pseudonyms.files" . | fromYamlArray) -}}
{{- end -}}
namespace: {{ .Release.Namespace }}
instance: {{ .Release.Name }}
image: {{ include "plumbline.image" (dict "root" . "image" $launcher.image) }}
image_pull_policy: {{ .Values.image.pullPolicy }}
image_pull_secrets: {{ concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq | toJson }}
service_account: {{ include "plumbline.componentName" $training }}
run_as_user: {{ .Values.podSecurityContext.runAsUser | toJson }}
state_dir: /var/lib/plumbline
default_pool: {{ $launcher.defaultPool }}
pools:
  {{- range $name, $pool := $launcher.pools }}
  {{ $name }}:
    {{- include "plumbline.launcher.pool" (dict "root" $ "name" $name "pool" (mergeOverwrite (deepCopy $launcher.poolDefaults) ($pool | default dict))) | nindent 4 }}
  {{- end }}
environment:
  {{- /* A pod may hold several ranks, and none of them serves metrics: they report to the job. */}}
  {{- range $name, $value := omit (include "plumbline.environment.shared" . | fromYaml) "PLUMBLINE_METRICS_LISTEN" }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  - name: PLUMBLINE_CACHE_BYTES
    value: {{ $launcher.cacheBytes | int64 | quote }}
  {{- with concat $variables (include "plumbline.launcher.extraEnv" . | fromYamlArray) $launcher.extraEnvironment }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  {{- range $files }}
  - name: {{ .name }}
    {{- if .secret }}
    secret:
      secretName: {{ .secret }}
      defaultMode: 0440
    {{- else }}
    configMap:
      name: {{ .configMap }}
    {{- end }}
      {{- with .items }}
      items: {{ toJson . }}
      {{- end }}
  {{- else }} []
  {{- end }}
volume_mounts:
  {{- range $files }}
  - {{ dict "name" .name "mountPath" .mountPath "readOnly" true | toJson }}
  {{- else }} []
  {{- end }}
pod_labels:
  {{- toYaml (merge (dict "app.kubernetes.io/part-of" "plumbline") $launcher.podLabels .Values.commonLabels) | nindent 2 }}
pod_annotations:
  {{- toYaml (merge (dict) $launcher.podAnnotations .Values.commonAnnotations) | nindent 2 }}
kueue_queue: {{ $launcher.kueue.queueName | quote }}
scheduler: {{ ternary "volcano" "" $launcher.volcano.enabled | quote }}
volcano_queue: {{ $launcher.volcano.queue | quote }}
job_set: {{ $launcher.jobSet.enabled }}
ttl_s: {{ $launcher.ttlSeconds | int }}
termination_grace_s: {{ $launcher.terminationGraceSeconds | int }}
node_lost_s: {{ $launcher.nodeLostSeconds | int }}
log_tail_lines: {{ $launcher.logTailLines | int }}
patience:
  unschedulable_s: {{ $launcher.patience.unschedulableSeconds | int }}
  image_pull_s: {{ $launcher.patience.imagePullSeconds | int }}
  creation_s: {{ $launcher.patience.creationSeconds | int }}
{{- end -}}

{{/* Queues whose jobs run in training pods: those of the group that launches. Context: the root. */}}
{{- define "plumbline.launcher.queues" -}}
{{- $group := index .Values.workers .Values.launcher.workerGroup | default dict -}}
{{- toYaml ($group.queues | default list) -}}
{{- end -}}

{{/* What of `extraEnv` the launcher's configuration can hold, as its entries. Context: the root. */}}
{{- define "plumbline.launcher.extraEnv" -}}
{{- $entries := list -}}
{{- range .Values.extraEnv -}}
{{- $secret := dig "valueFrom" "secretKeyRef" dict . -}}
{{- if $secret -}}
{{- $entries = append $entries (dict "name" .name "secret" $secret.name "key" $secret.key "optional" ($secret.optional | default false)) -}}
{{- else if not .valueFrom -}}
{{- $entries = append $entries (dict "name" .name "value" (.value | default "")) -}}
{{- end -}}
{{- end -}}
{{- toYaml $entries -}}
{{- end -}}

{{/* One pool of training pods. Context: root, name, pool. */}}
{{- define "plumbline.launcher.pool" -}}
{{- $of := printf "launcher.pools.%s" .name -}}
{{- $nodes := include "plumbline.pool" (dict "root" .root "name" .pool.nodePool "of" $of) | fromYaml -}}
{{- if and (gt (int .pool.gpusPerRank) 0) (not $nodes.gpuResourceKey) -}}
{{- fail (printf "%s asks for gpusPerRank=%d in the pool %q, which has no gpuResourceKey; choose a pool with one, such as nvidia.com/gpu" $of (int .pool.gpusPerRank) .pool.nodePool) -}}
{{- end -}}
node_selector: {{ $nodes.nodeSelector | default dict | toJson }}
tolerations: {{ $nodes.tolerations | default list | toJson }}
topology_spread: {{ $nodes.topologySpreadConstraints | default list | toJson }}
runtime_class: {{ $nodes.runtimeClassName | default "" | quote }}
priority_class: {{ include "plumbline.priorityClassName" (dict "root" .root "name" .pool.priorityClassName) | quote }}
resources: {{ .pool.resources | toJson }}
{{- with $nodes.gpuResourceKey }}
gpu_resource: {{ . }}
{{- end }}
gpus_per_rank: {{ .pool.gpusPerRank | int }}
threads: {{ .pool.threads | int }}
state_size_limit: {{ .pool.stateSizeLimit | quote }}
shared_memory_size_limit: {{ .pool.sharedMemorySizeLimit | quote }}
{{- end -}}
