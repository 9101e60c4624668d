{{/*
The environment of every pod of the product that is no secret, as a map: a ConfigMap for services
and workers, and lines of the launcher's configuration for the pods of training.
*/}}
{{- define "plumbline.environment.shared" -}}
{{- $root := . -}}
PLUMBLINE_STATE_DIR: /var/lib/plumbline
{{- range $name, $value := include "plumbline.connections.store" . | fromYaml }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- range $name, $service := .Values.services }}
{{- if $service.enabled }}
PLUMBLINE_{{ upper $name }}_TARGET: {{ include "plumbline.target" (dict "root" $root "component" $name) }}
{{- end }}
{{- end }}
# Set but empty: no `path:` input is taken. A pod has no files of its callers.
PLUMBLINE_IMPORT_ROOTS: {{ join ":" .Values.importRoots | quote }}
{{- with .Values.trackers.names }}
PLUMBLINE_TRACKERS: {{ join "," . }}
{{- end }}
{{- if .Values.metrics.enabled }}
PLUMBLINE_METRICS_LISTEN: 0.0.0.0:9464
{{- end }}
{{- with .Values.tracing.otlpEndpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
# Libraries that keep something under the home directory find a place that can be written.
HOME: /var/lib/plumbline
# torch's threads sleep while they wait: spinning ones take the cores from other pods of the node.
OMP_WAIT_POLICY: PASSIVE
{{- end -}}

{{/*
What a component's own section adds, as EnvVar entries.
Context: root, component, settings; broker, store.
*/}}
{{- define "plumbline.environment.component" -}}
- name: PLUMBLINE_THREADS
  value: {{ .settings.threads | int | quote }}
- name: PLUMBLINE_CACHE_BYTES
  value: {{ .settings.state.cacheBytes | int64 | quote }}
{{- $entries := include "plumbline.connections.environment" . | fromYamlArray }}
{{- include "plumbline.environment.entries" (concat $entries (.environment | default list)) }}
{{- with concat .root.Values.extraEnv .settings.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Entries {name, value} or {name, secret, key} as EnvVar entries. */}}
{{- define "plumbline.environment.entries" -}}
{{- range . }}
- name: {{ .name }}
  {{- if .secret }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
  {{- else }}
  value: {{ .value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where a server listens, and how long it takes calls after it was told to end. Context: root, component, settings. */}}
{{- define "plumbline.environment.server" -}}
- name: PLUMBLINE_{{ upper .component | replace "-" "_" }}_LISTEN
  value: 0.0.0.0:{{ .port }}
- name: PLUMBLINE_DRAIN_S
  value: {{ .settings.shutdown.drainSeconds | int | quote }}
{{- end -}}
