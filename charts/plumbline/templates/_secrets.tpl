{{/*
Secrets that the chart makes once and never changes: what the cluster holds wins over what is drawn.

`plumbline.secrets.generated` gives them all as a map and is remembered for the length of one
rendering, because a second draw would give other values to the Secret and to the checksums. Where
no cluster is asked (`helm template`), every rendering draws anew: tools that apply such output
again and again need `existingSecret` everywhere.
*/}}
{{- define "plumbline.secrets.generated" -}}
{{- if not (hasKey .Values "_generated") -}}
{{- $made := dict -}}
{{- if and .Values.valkey.enabled (not .Values.valkey.existingSecret) -}}
{{- $_ := set $made "valkey" (dict "password" (include "plumbline.secrets.kept" (dict "root" . "component" "valkey" "key" "password"))) -}}
{{- end -}}
{{- if and .Values.objectStore.enabled (not .Values.objectStore.existingSecret) -}}
{{- $_ := set $made "store" (dict
      "access-key" (include "plumbline.secrets.kept" (dict "root" . "component" "store" "key" "access-key" "length" 20))
      "secret-key" (include "plumbline.secrets.kept" (dict "root" . "component" "store" "key" "secret-key"))) -}}
{{- end -}}
{{- if and .Values.auth.enabled (not .Values.auth.existingSecret) -}}
{{- $tokens := dict -}}
{{- range $key := list "admin-token" "internal-token" "check-token" -}}
{{- $_ := set $tokens $key (include "plumbline.secrets.kept" (dict "root" $ "component" "auth" "key" $key)) -}}
{{- end -}}
{{- $_ := set $tokens "tokens.json" (include "plumbline.secrets.tokenTable" (dict "root" . "tokens" $tokens)) -}}
{{- $_ := set $made "auth" $tokens -}}
{{- end -}}
{{- $_ := set .Values "_generated" $made -}}
{{- end -}}
{{- toYaml .Values._generated -}}
{{- end -}}

{{/* One value: what the release's Secret holds, else letters and digits, so that URLs take it.
Context: root, component, key, length. */}}
{{- define "plumbline.secrets.kept" -}}
{{- $name := include "plumbline.componentName" . -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace $name | default dict -}}
{{- $data := $found.data | default dict -}}
{{- if hasKey $data .key -}}
{{- index $data .key | b64dec -}}
{{- else -}}
{{- randAlphaNum (.length | default 40 | int) -}}
{{- end -}}
{{- end -}}

{{/*
The tokens file: digests of tokens with what they may do. Parts of the platform call the sampler,
the reward service and the retriever, and nothing else.
*/}}
{{- define "plumbline.secrets.tokenTable" -}}
{{- $table := dict
      (index .tokens "admin-token" | sha256sum) (dict "name" "admin" "scopes" (list "*"))
      (index .tokens "internal-token" | sha256sum) (dict "name" "internal" "scopes" (list "sampler.*" "reward.*" "retriever.*"))
      (index .tokens "check-token" | sha256sum) (dict "name" "check" "scopes" (list "jobs.CreateJob" "jobs.WatchJob" "jobs.CancelJob")) -}}
{{- range .root.Values.auth.grants -}}
{{- $grant := dict "name" .name "scopes" .scopes -}}
{{- with .expiresAt -}}
{{- $_ := set $grant "expires_at" . -}}
{{- end -}}
{{- $_ := set $table .tokenSha256 $grant -}}
{{- end -}}
{{- toPrettyJson $table -}}
{{- end -}}

{{/* Names of the Secrets. Context: the root. */}}

{{- define "plumbline.valkey.secret" -}}
{{- .Values.valkey.existingSecret | default (printf "%s-valkey" (include "plumbline.fullname" .)) -}}
{{- end -}}

{{- define "plumbline.store.secret" -}}
{{- if .Values.objectStore.enabled -}}
{{- .Values.objectStore.existingSecret | default (printf "%s-store" (include "plumbline.fullname" .)) -}}
{{- else -}}
{{- .Values.externalObjectStore.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "plumbline.auth.secret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "plumbline.fullname" .)) -}}
{{- end -}}
