{{/*
Objects of one component. Context of all: root; component; settings; what `plumbline.pod.template`
takes besides. Each begins its own document.
*/}}

{{- define "plumbline.deployment" -}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "plumbline.metadata" . | nindent 2 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .settings.replicas | int }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- $surge := ternary 1 0 (eq (int .settings.gpus) 0) }}
      {{- toYaml (.settings.rollingUpdate | default (dict "maxSurge" $surge "maxUnavailable" (sub 1 $surge))) | nindent 6 }}
  selector:
    matchLabels:
      {{- include "plumbline.selectorLabels" . | nindent 6 }}
  template:
    {{- include "plumbline.pod.template" . | nindent 4 }}
{{ end -}}

{{/* Headless unless the component says otherwise, so that gRPC clients see every ready pod. */}}
{{- define "plumbline.service" -}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "plumbline.metadata" (merge (dict "annotations" .settings.service.annotations) .) | nindent 2 }}
spec:
  {{- if eq .settings.service.type "Headless" }}
  clusterIP: None
  {{- else }}
  type: {{ .settings.service.type }}
  {{- end }}
  selector:
    {{- include "plumbline.selectorLabels" . | nindent 4 }}
  ports:
    {{- range $name, $port := .servicePorts }}
    - name: {{ $name }}
      port: {{ $port }}
      targetPort: {{ $name }}
    {{- end }}
{{ end -}}

{{- define "plumbline.serviceAccount" -}}
{{- if not .settings.serviceAccount.name -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "plumbline.metadata" (merge (dict "annotations" .settings.serviceAccount.annotations) .) | nindent 2 }}
automountServiceAccountToken: false
{{ end -}}
{{- end -}}

{{- define "plumbline.podDisruptionBudget" -}}
{{- if .settings.podDisruptionBudget.enabled -}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "plumbline.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .settings.podDisruptionBudget.maxUnavailable }}
  # A pod that crashes anyway does not hold up the draining of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "plumbline.selectorLabels" . | nindent 6 }}
{{ end -}}
{{- end -}}

{{- define "plumbline.horizontalPodAutoscaler" -}}
{{- $scaling := .settings.autoscaling -}}
{{- if $scaling.enabled -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "%s has autoscaling.minReplicas=%d above maxReplicas=%d" .component (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if not (or $scaling.targetCPUUtilizationPercentage $scaling.metrics) -}}
{{- fail (printf "%s has autoscaling.enabled=true and nothing to scale by; accepted: targetCPUUtilizationPercentage above 0, or metrics" .component) -}}
{{- end -}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "plumbline.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "plumbline.componentName" . }}
  minReplicas: {{ $scaling.minReplicas | int }}
  maxReplicas: {{ $scaling.maxReplicas | int }}
  metrics:
    {{- with $scaling.targetCPUUtilizationPercentage }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ . | int }}
    {{- end }}
    {{- with $scaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $scaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{ end -}}
{{- end -}}

{{/* Everything of a component that serves callers. */}}
{{- define "plumbline.server" -}}
{{ include "plumbline.serviceAccount" . }}
{{ include "plumbline.service" . }}
{{ include "plumbline.deployment" . }}
{{ include "plumbline.podDisruptionBudget" . }}
{{ include "plumbline.horizontalPodAutoscaler" . }}
{{- end -}}
