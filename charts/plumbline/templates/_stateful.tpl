{{/*
Pieces of the pods of other people's programs: Valkey, SeaweedFS, Triton.
Context: root; component; settings, their section of the values.
*/}}

{{- define "plumbline.foreign.podMetadata" -}}
labels:
  {{- include "plumbline.labels" (dict "root" .root "component" .component "labels" .settings.podLabels) | nindent 2 }}
annotations:
  checksum/secrets: {{ include "plumbline.connections.checksum" . | sha256sum }}
  {{- with merge (dict) .settings.podAnnotations .root.Values.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* As pods of the product; none of them has to do with the Kubernetes API, so no account. */}}
{{- define "plumbline.foreign.podCommon" -}}
{{- $settings := merge (dict "serviceAccount" (dict "name" "default")) .settings -}}
{{- include "plumbline.pod.common" (dict "root" .root "component" .component "settings" $settings) }}
{{ include "plumbline.pod.placement" . }}
{{- end -}}

{{- define "plumbline.foreign.container" -}}
image: {{ include "plumbline.foreignImage" (dict "root" .root "image" .settings.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- end -}}

{{/* A headless Service of one port. Context besides: port {name, number}. */}}
{{- define "plumbline.stateful.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "plumbline.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "plumbline.selectorLabels" . | nindent 4 }}
  ports:
    - name: {{ .port.name }}
      port: {{ .port.number }}
      targetPort: {{ .port.name }}
{{- end -}}

{{/*
The volume `data`: of its own where it is kept, else the pod's. Its labels never change, since
those of a StatefulSet's claims cannot.
*/}}
{{- define "plumbline.stateful.claims" -}}
{{- with .settings.persistence }}
{{- if .enabled }}
volumeClaimTemplates:
  - metadata:
      name: data
      labels:
        {{- include "plumbline.selectorLabels" $ | nindent 8 }}
    spec:
      accessModes:
        {{- toYaml .accessModes | nindent 8 }}
      {{- with .storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "plumbline.stateful.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- if not .settings.persistence.enabled }}
- name: data
  emptyDir:
    sizeLimit: {{ .settings.persistence.size }}
{{- end }}
{{- end -}}
