{{/* What workers have in common. Context: see workers.yaml; settings include `queues`. */}}

{{/* The Python arguments of a worker. */}}
{{- define "plumbline.worker.command" -}}
- /opt/plumbline/bin/python
- -m
- plumbline.worker
- --queues={{ join "," .settings.queues }}
# The pod's name, so that job records say where they ran.
- --name=$(POD_NAME)
- --concurrency={{ .settings.concurrency | int }}
- --soft-shutdown-s={{ .settings.shutdown.graceSeconds | int }}
{{- if eq .settings.keda.kind "ScaledJob" }}
- --exit-when-idle-s={{ .settings.keda.idleSeconds | int }}
{{- end }}
{{- end -}}

{{/*
By the file that a worker writes when it polls its queues: answering to pings does not mean that it
consumes. The probe holds still while the broker is away, since a restart would end running jobs.
*/}}
{{- define "plumbline.worker.probes" -}}
{{- range $probe := list "startup" "liveness" }}
{{ $probe }}Probe:
  exec:
    command:
      - /opt/plumbline/bin/python
      - -m
      - plumbline.probe
      - --older-than-s={{ $.settings.liveness.maxPollAgeSeconds | int }}
      {{- if eq $probe "startup" }}
      - --startup
      {{- end }}
  {{- include "plumbline.pod.probeTiming" (index $.settings.probes $probe) | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "plumbline.worker.environment" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if .launches }}
- name: PLUMBLINE_EXECUTOR
  value: kubernetes
- name: PLUMBLINE_LAUNCHER_CONFIG
  value: /etc/plumbline/launcher/launcher.yaml
{{- end }}
{{- if has "curation" .settings.queues }}
{{- include "plumbline.environment.entries" (include "plumbline.pseudonyms.environment" .root | fromYamlArray) }}
{{- end }}
{{- end -}}

{{- define "plumbline.worker.files" -}}
{{- if has "curation" .settings.queues }}
{{- include "plumbline.pseudonyms.files" .root }}
{{- end }}
{{- if .launches }}
- name: launcher
  mountPath: /etc/plumbline/launcher
  configMap: {{ include "plumbline.fullname" .root }}-launcher
{{- end }}
{{- end -}}

{{/* The launcher's token: short-lived, for the API server alone, and only in this container. */}}
{{- define "plumbline.launcher.tokenVolume" -}}
- name: kubernetes-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end -}}

{{- define "plumbline.launcher.tokenMount" -}}
- name: kubernetes-token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end -}}

{{/* The broker as KEDA asks it: host:port, and the password by Secret. Context: the root. */}}
{{- define "plumbline.worker.broker" -}}
{{- $external := .Values.externalRedis -}}
{{- if .Values.valkey.enabled -}}
address: {{ include "plumbline.host" (dict "root" . "component" "valkey") }}:6379
secret: {{ include "plumbline.valkey.secret" . }}
key: {{ .Values.valkey.secretKey }}
{{- else if $external.host -}}
{{- if $external.username -}}
{{- fail (printf "workers with keda.kind look at the queues as the default user; externalRedis.username=%q is not accepted with them" $external.username) -}}
{{- end -}}
address: {{ $external.host }}:{{ $external.port | int }}
secret: {{ $external.existingSecret | quote }}
key: {{ $external.passwordKey }}
database: {{ $external.database | int }}
tls: {{ $external.tls.enabled }}
caSecret: {{ $external.tls.caSecret | quote }}
caKey: {{ $external.tls.caKey }}
{{- else -}}
{{- fail "workers with keda.kind need valkey.enabled=true or externalRedis.host: KEDA takes no URL of Redis" -}}
{{- end -}}
{{- end -}}

{{/* Triggers of KEDA: the length of each queue, which does not count jobs that run. */}}
{{- define "plumbline.worker.triggers" -}}
{{- $broker := include "plumbline.worker.broker" .root | fromYaml -}}
{{- range .settings.queues }}
- type: redis
  metadata:
    address: {{ $broker.address | quote }}
    listName: {{ . }}
    listLength: {{ $.settings.keda.jobsPerPod | int | quote }}
    databaseIndex: {{ $broker.database | default 0 | int | quote }}
    enableTLS: {{ $broker.tls | default false | toString | quote }}
  {{- if or $broker.secret $broker.caSecret }}
  authenticationRef:
    name: {{ include "plumbline.fullname" $.root }}-keda
  {{- end }}
{{- end }}
{{- end -}}

{{- define "plumbline.worker.scaledObject" -}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "plumbline.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    name: {{ include "plumbline.componentName" . }}
  minReplicaCount: {{ .settings.keda.minReplicas | int }}
  maxReplicaCount: {{ .settings.keda.maxReplicas | int }}
  pollingInterval: {{ .settings.keda.pollingIntervalSeconds | int }}
  cooldownPeriod: {{ .settings.keda.cooldownSeconds | int }}
  triggers:
    {{- include "plumbline.worker.triggers" . | trim | nindent 4 }}
{{- end -}}

{{- define "plumbline.worker.scaledJob" -}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata:
  {{- include "plumbline.metadata" . | nindent 2 }}
spec:
  minReplicaCount: {{ .settings.keda.minReplicas | int }}
  maxReplicaCount: {{ .settings.keda.maxReplicas | int }}
  pollingInterval: {{ .settings.keda.pollingIntervalSeconds | int }}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  # A queue's length leaves out the jobs that run, so pods that run are not subtracted from it.
  scalingStrategy:
    strategy: accurate
  # An upgrade leaves the pods that work to end by themselves.
  rollout:
    strategy: gradual
  jobTargetRef:
    # The platform retries jobs; a pod that ended is not started again.
    backoffLimit: 0
    template:
      {{- include "plumbline.pod.template" . | nindent 6 }}
  triggers:
    {{- include "plumbline.worker.triggers" . | trim | nindent 4 }}
{{- end -}}
