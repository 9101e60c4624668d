{{/*
Pieces of a pod's specification. Context of all: root; component; settings, the component's section
over `podDefaults`.
*/}}

{{/* Who the pod is and what it may do: Pod Security `restricted`, without a token. */}}
{{- define "plumbline.pod.common" -}}
serviceAccountName: {{ .settings.serviceAccount.name | default (include "plumbline.componentName" .) }}
automountServiceAccountToken: false
# The cluster's other Services are no business of this pod, and their variables could be taken for
# the product's.
enableServiceLinks: false
{{- with include "plumbline.pullSecrets" .root }}
imagePullSecrets:
  {{- . | trim | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* Which nodes the pod may run on, and how urgently. */}}
{{- define "plumbline.pod.placement" -}}
{{- $pool := include "plumbline.pool" (dict "root" .root "name" .settings.pool "of" .component) | fromYaml -}}
{{- $selector := .selector | default (include "plumbline.selectorLabels" .) -}}
{{- with merge (dict) .settings.nodeSelector ($pool.nodeSelector | default dict) }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat ($pool.tolerations | default list) .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.topologySpreadConstraints | default $pool.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml (omit . "labelSelector") | nindent 4 | trim }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end }}
{{- with $pool.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with include "plumbline.priorityClassName" (dict "root" .root "name" .settings.priorityClassName) }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* One of `nodePools`. Context: root, name, of (who asks). */}}
{{- define "plumbline.pool" -}}
{{- $pools := .root.Values.nodePools -}}
{{- if not (hasKey $pools .name) -}}
{{- fail (printf "pool %q of %s is not in nodePools; accepted: %s" .name .of (keys $pools | sortAlpha | join ", ")) -}}
{{- end -}}
{{- toYaml (index $pools .name | default dict) -}}
{{- end -}}

{{/* A class of the chart's own under its cluster-wide name; others are given as they are. */}}
{{- define "plumbline.priorityClassName" -}}
{{- $classes := .root.Values.priorityClass -}}
{{- if and .name $classes.create (hasKey $classes.classes .name) -}}
{{- printf "%s-%s-%s" .root.Release.Namespace (include "plumbline.fullname" .root) .name -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}

{{/* Requests and limits, with the pool's accelerators. */}}
{{- define "plumbline.pod.resources" -}}
{{- $resources := deepCopy .settings.resources -}}
{{- if gt (int .settings.gpus) 0 -}}
{{- $pool := include "plumbline.pool" (dict "root" .root "name" .settings.pool "of" .component) | fromYaml -}}
{{- if not $pool.gpuResourceKey -}}
{{- fail (printf "%s asks for gpus=%d in the pool %q, which has no gpuResourceKey; choose a pool with one, such as nvidia.com/gpu" .component (int .settings.gpus) .settings.pool) -}}
{{- end -}}
{{- $_ := set $resources "limits" (merge (dict $pool.gpuResourceKey (int .settings.gpus)) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/*
Volumes: the root is read-only, so what is written has places of its own.
Context besides: files, the component's entries {name, mountPath, configMap or secret, items?}.
*/}}
{{- define "plumbline.pod.volumes" -}}
- name: tmp
  emptyDir:
    {{- with .settings.state.tmpSizeLimit }}
    sizeLimit: {{ . }}
    {{- else }} {}
    {{- end }}
- name: state
  emptyDir:
    {{- with .settings.state.sizeLimit }}
    sizeLimit: {{ . }}
    {{- else }} {}
    {{- end }}
{{- with .settings.state.sharedMemorySizeLimit }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end }}
{{- range include "plumbline.pod.files" . | fromYamlArray }}
- name: {{ .name }}
  {{- if .secret }}
  secret:
    secretName: {{ .secret }}
    # Readable by the pod's group alone.
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ .configMap }}
  {{- end }}
    {{- with .items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- with .settings.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "plumbline.pod.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
- name: state
  mountPath: /var/lib/plumbline
{{- if .settings.state.sharedMemorySizeLimit }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
{{- range include "plumbline.pod.files" . | fromYamlArray }}
- name: {{ .name }}
  mountPath: {{ .mountPath }}
  readOnly: true
{{- end }}
{{- with .settings.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "plumbline.pod.files" -}}
{{- toYaml (concat (include "plumbline.connections.files" . | fromYamlArray) (.files | default list)) -}}
{{- end -}}

{{/* Timing of one probe. Context: one of `probes`. */}}
{{- define "plumbline.pod.probeTiming" -}}
periodSeconds: {{ .periodSeconds | int }}
failureThreshold: {{ .failureThreshold | int }}
{{- with .timeoutSeconds }}
timeoutSeconds: {{ . | int }}
{{- end }}
{{- end -}}

{{/*
A pod template. Context besides: image (merged), command, ports, probes (YAML of the three),
environment (YAML of EnvVar entries), gracePeriod (s), podLabels.
*/}}
{{- define "plumbline.pod.template" -}}
metadata:
  labels:
    {{- include "plumbline.labels" (dict "root" .root "component" .component "labels" .settings.podLabels) | nindent 4 }}
  annotations:
    checksum/environment: {{ include "plumbline.environment.shared" .root | sha256sum }}
    checksum/secrets: {{ include "plumbline.connections.checksum" . | sha256sum }}
    {{- with .configuration }}
    checksum/configuration: {{ . | sha256sum }}
    {{- end }}
    {{- with merge (dict) .settings.podAnnotations .root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "plumbline.pod.common" . | nindent 2 }}
  {{- include "plumbline.pod.placement" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ .gracePeriod }}
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with .settings.initContainers }}
  initContainers:
    {{- include "plumbline.pod.guests" (dict "root" $.root "containers" .) | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      {{- include "plumbline.pod.container" . | nindent 6 }}
    {{- with .settings.sidecars }}
    {{- include "plumbline.pod.guests" (dict "root" $.root "containers" .) | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "plumbline.pod.volumes" . | nindent 4 }}
    {{- with .extraVolumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Containers that the values bring: they too are admitted under `restricted`. */}}
{{- define "plumbline.pod.guests" -}}
{{- range .containers }}
- {{ toYaml (merge (dict) . (dict "securityContext" $.root.Values.securityContext)) | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{- define "plumbline.pod.container" -}}
image: {{ include "plumbline.image" (dict "root" .root "image" .settings.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command:
  {{- toYaml .command | nindent 2 }}
envFrom:
  - configMapRef:
      name: {{ include "plumbline.fullname" .root }}-environment
  {{- with .settings.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- .ownEnvironment | trim | nindent 2 }}
  {{- include "plumbline.environment.component" . | trim | nindent 2 }}
{{- with .ports }}
ports:
  {{- range $name, $port := . }}
  - name: {{ $name }}
    containerPort: {{ $port }}
  {{- end }}
{{- end }}
{{- .probes | trim | nindent 0 }}
resources:
  {{- include "plumbline.pod.resources" . | nindent 2 }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
volumeMounts:
  {{- include "plumbline.pod.volumeMounts" . | nindent 2 }}
  {{- with .extraVolumeMounts }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
