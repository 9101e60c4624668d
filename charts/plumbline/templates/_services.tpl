{{/* What the gRPC services have in common. Context: see services.yaml. */}}

{{/* What a service's program connects to, beside other services; from its `server.py`. */}}
{{- define "plumbline.service.facts" -}}
{{- $facts := dict
  "curation" (dict "broker" true "store" false)
  "sampler" (dict "broker" false "store" true)
  "reward" (dict "broker" false "store" true)
  "trainer" (dict "broker" true "store" false)
  "retriever" (dict "broker" false "store" true)
  "evaluation" (dict "broker" true "store" false)
  "pipeline" (dict "broker" true "store" true) -}}
{{- index $facts . | toYaml -}}
{{- end -}}

{{- define "plumbline.service.ports" -}}
grpc: 50051
# Plaintext: probes have no client certificate.
health: 50052
{{- if .root.Values.metrics.enabled }}
metrics: 9464
{{- end }}
{{- end -}}

{{/* A server that drains is not ready but alive, so the two ask for different names. */}}
{{- define "plumbline.service.probes" -}}
startupProbe:
  grpc:
    port: 50052
    service: liveness
  {{- include "plumbline.pod.probeTiming" .settings.probes.startup | nindent 2 }}
readinessProbe:
  grpc:
    port: 50052
  {{- include "plumbline.pod.probeTiming" .settings.probes.readiness | nindent 2 }}
livenessProbe:
  grpc:
    port: 50052
    service: liveness
  {{- include "plumbline.pod.probeTiming" .settings.probes.liveness | nindent 2 }}
{{- end -}}

{{- define "plumbline.service.environment" -}}
{{ include "plumbline.environment.server" . }}
- name: PLUMBLINE_GRACE_S
  value: {{ .settings.shutdown.graceSeconds | int | quote }}
- name: PLUMBLINE_HEALTH_LISTEN
  value: 0.0.0.0:50052
{{- end -}}

{{/* Variables of single services, as entries. */}}
{{- define "plumbline.service.options" -}}
{{- $values := .settings -}}
{{- if $values.config }}
- name: PLUMBLINE_{{ upper .component }}_CONFIG
  value: /etc/plumbline/config/{{ .component }}.yaml
{{- end }}
{{- if eq .component "sampler" }}
- name: PLUMBLINE_SAMPLER_BACKEND
  value: {{ $values.backend }}
{{- if eq $values.backend "openai" }}
- name: PLUMBLINE_OPENAI_BASE_URL
  value: {{ $values.openai.baseUrl }}
{{- with $values.openai.existingSecret }}
- name: PLUMBLINE_OPENAI_API_KEY
  secret: {{ . }}
  key: {{ $values.openai.secretKey }}
{{- end }}
{{- end }}
{{- if and (eq $values.backend "triton") $values.triton.tokenizer }}
- name: PLUMBLINE_TRITON_TOKENIZER
  value: {{ $values.triton.tokenizer | quote }}
{{- end }}
{{- end }}
{{- if eq .component "reward" }}
- name: PLUMBLINE_REWARD_BACKEND
  value: {{ $values.backend }}
{{- end }}
{{- if and (has .component (list "sampler" "reward")) (eq $values.backend "triton") }}
- name: PLUMBLINE_TRITON_TARGET
  value: {{ include "plumbline.triton.target" .root }}
{{- end }}
{{- if and (eq .component "retriever") $values.qdrant.url }}
- name: PLUMBLINE_QDRANT_URL
  value: {{ $values.qdrant.url }}
{{- with $values.qdrant.existingSecret }}
- name: PLUMBLINE_QDRANT_API_KEY
  secret: {{ . }}
  key: {{ $values.qdrant.secretKey }}
{{- end }}
{{- end }}
{{- if eq .component "curation" }}
{{- include "plumbline.pseudonyms.environment" .root }}
{{- end }}
{{- end -}}

{{/* Files of single services: their configuration, and keys of pseudonyms. */}}
{{- define "plumbline.service.files" -}}
{{- if .settings.config }}
- name: configuration
  mountPath: /etc/plumbline/config
  configMap: {{ include "plumbline.componentName" . }}
{{- end }}
{{- if eq .component "curation" }}
{{- include "plumbline.pseudonyms.files" .root }}
{{- end }}
{{- end -}}

{{- define "plumbline.pseudonyms.environment" -}}
{{- if .Values.pseudonyms.existingSecret }}
- name: PLUMBLINE_PSEUDONYM_KEYS_FILE
  value: /etc/plumbline/pseudonyms/{{ .Values.pseudonyms.secretKey }}
{{- end }}
{{- end -}}

{{- define "plumbline.pseudonyms.files" -}}
{{- with .Values.pseudonyms.existingSecret }}
- name: pseudonyms
  mountPath: /etc/plumbline/pseudonyms
  secret: {{ . }}
{{- end }}
{{- end -}}
