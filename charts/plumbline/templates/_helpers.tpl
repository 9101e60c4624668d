{{/* Names, labels and images. Resources are named `<fullname>-<component>`. */}}

{{- define "plumbline.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* 36 characters leave room for the longest component, so that no name passes the 63 of DNS. */}}
{{- define "plumbline.fullname" -}}
{{- $name := include "plumbline.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Context of this and of most below: dict "root" $ "component" "sampler". */}}
{{- define "plumbline.componentName" -}}
{{- printf "%s-%s" (include "plumbline.fullname" .root) .component -}}
{{- end -}}

{{/* What selects a component's pods: never changes in the life of a release. */}}
{{- define "plumbline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "plumbline.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The chart's own labels win: policies, monitors and `kubectl -l` go by them. Context besides: labels. */}}
{{- define "plumbline.labels" -}}
{{- $own := dict
      "app.kubernetes.io/part-of" "plumbline"
      "app.kubernetes.io/managed-by" .root.Release.Service
      "app.kubernetes.io/version" .root.Chart.AppVersion
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge (include "plumbline.selectorLabels" . | fromYaml) $own (.labels | default dict) .root.Values.commonLabels) -}}
{{- end -}}

{{/*
metadata of an object.
Context: root, component; name (default: the component's), labels, annotations.
*/}}
{{- define "plumbline.metadata" -}}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations -}}
name: {{ .name | default (include "plumbline.componentName" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "plumbline.labels" . | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Reference of an image of the product.
Context: root; image with name, repository, tag, digest.
*/}}
{{- define "plumbline.image" -}}
{{- $own := .image -}}
{{- $registry := .root.Values.global.imageRegistry | default .root.Values.image.registry -}}
{{- $named := printf "%s%s" .root.Values.image.prefix $own.name -}}
{{- $path := ternary (printf "%s/%s" (trimSuffix "/" $registry) $named) $named (ne $registry "") -}}
{{- $tag := $own.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- include "plumbline.imageReference" (dict "path" ($own.repository | default $path) "tag" $tag "digest" $own.digest) -}}
{{- end -}}

{{/*
Reference of somebody else's image: a mirror replaces its registry.
Context: root; image with registry, repository, tag, digest.
*/}}
{{- define "plumbline.foreignImage" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{- $path := ternary (printf "%s/%s" (trimSuffix "/" $registry) .image.repository) .image.repository (ne $registry "") -}}
{{- include "plumbline.imageReference" (dict "path" $path "tag" .image.tag "digest" .image.digest) -}}
{{- end -}}

{{- define "plumbline.imageReference" -}}
{{- if .digest -}}
{{- printf "%s@%s" .path .digest -}}
{{- else -}}
{{- printf "%s:%s" .path .tag -}}
{{- end -}}
{{- end -}}

{{/* Names of all pull secrets, as a list of {name}; empty where there are none. */}}
{{- define "plumbline.pullSecrets" -}}
{{- $names := concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq -}}
{{- range $names }}
- name: {{ . }}
{{- end }}
{{- end -}}

{{/*
gRPC target of a service. Its Service is headless: clients see every ready pod and take turns.
Context: root, component.
*/}}
{{- define "plumbline.target" -}}
{{- printf "dns:///%s:50051" (include "plumbline.host" .) -}}
{{- end -}}

{{/* DNS name of a component's Service; certificates carry it. Context: root, component. */}}
{{- define "plumbline.host" -}}
{{- printf "%s.%s.svc" (include "plumbline.componentName" .) .root.Release.Namespace -}}
{{- end -}}
