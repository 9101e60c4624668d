{{/*
How pods reach the broker and the store, and who they are: what comes from secrets. The same
entries become variables and volumes of services and workers, and of the pods that training is
launched in, so they are plain data:

    plumbline.connections.environment   [{name, value} or {name, secret, key}]
    plumbline.connections.files         [{name, mountPath, secret or configMap, items?}]
    plumbline.connections.checksum      changes when a secret that the chart keeps does

Context: root; component; broker and store (whether it needs them).
*/}}

{{- define "plumbline.connections.environment" -}}
{{- $entries := list -}}
{{- if .broker -}}
{{- $entries = concat $entries (include "plumbline.broker.environment" .root | fromYamlArray) -}}
{{- end -}}
{{- if .store -}}
{{- $entries = concat $entries (include "plumbline.store.environment" .root | fromYamlArray) -}}
{{- end -}}
{{- $entries = concat $entries (include "plumbline.auth.environment" . | fromYamlArray) -}}
{{- $entries = concat $entries (include "plumbline.tls.environment" . | fromYamlArray) -}}
{{- toYaml $entries -}}
{{- end -}}

{{- define "plumbline.connections.files" -}}
{{- $files := list -}}
{{- if and .broker (include "plumbline.broker.caSecret" .root) -}}
{{- $item := dict "key" .root.Values.externalRedis.tls.caKey "path" "ca.crt" -}}
{{- $files = append $files (dict "name" "redis-ca" "mountPath" "/etc/plumbline/redis-ca" "secret" (include "plumbline.broker.caSecret" .root) "items" (list $item)) -}}
{{- end -}}
{{- if and .store (include "plumbline.store.caSecret" .root) -}}
{{- $item := dict "key" .root.Values.externalObjectStore.caKey "path" "ca.crt" -}}
{{- $files = append $files (dict "name" "store-ca" "mountPath" "/etc/plumbline/store-ca" "secret" (include "plumbline.store.caSecret" .root) "items" (list $item)) -}}
{{- end -}}
{{- if and .root.Values.auth.enabled (include "plumbline.isServer" .) -}}
{{- $item := dict "key" "tokens.json" "path" "tokens.json" -}}
{{- $files = append $files (dict "name" "tokens" "mountPath" "/etc/plumbline/auth" "secret" (include "plumbline.auth.secret" .root) "items" (list $item)) -}}
{{- end -}}
{{- if include "plumbline.tls.applies" . -}}
{{- $files = append $files (dict "name" "tls" "mountPath" "/etc/plumbline/tls" "secret" (include "plumbline.tls.secret" .)) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- define "plumbline.connections.checksum" -}}
{{- $made := include "plumbline.secrets.generated" .root | fromYaml -}}
{{- $used := dict -}}
{{- if or .broker (eq .component "valkey") -}}
{{- $_ := set $used "valkey" $made.valkey -}}
{{- end -}}
{{- if or .store (eq .component "store") -}}
{{- $_ := set $used "store" $made.store -}}
{{- end -}}
{{- /* Servers read the tokens file again when it changes: a new grant restarts nothing. */ -}}
{{- with include "plumbline.auth.tokenKey" . -}}
{{- $_ := set $used "token" (index ($made.auth | default dict) .) -}}
{{- end -}}
{{- toYaml $used -}}
{{- end -}}

{{/* Where artifacts are: PLUMBLINE_STORE, PLUMBLINE_S3_ENDPOINT, PLUMBLINE_S3_REGION, as a map. */}}
{{- define "plumbline.connections.store" -}}
{{- if .Values.objectStore.enabled -}}
PLUMBLINE_STORE: s3://{{ .Values.objectStore.bucket }}
PLUMBLINE_S3_ENDPOINT: http://{{ include "plumbline.host" (dict "root" . "component" "store") }}:8333
PLUMBLINE_S3_REGION: us-east-1
{{- else -}}
{{- $external := .Values.externalObjectStore -}}
PLUMBLINE_STORE: {{ printf "s3://%s/%s" $external.bucket (trimAll "/" $external.prefix) | trimSuffix "/" }}
PLUMBLINE_S3_ENDPOINT: {{ $external.endpoint }}
PLUMBLINE_S3_REGION: {{ $external.region }}
{{- if $external.caSecret }}
PLUMBLINE_S3_CA: /etc/plumbline/store-ca/ca.crt
{{- end }}
{{- end -}}
{{- end -}}

{{/* The gRPC services: what has a server certificate and asks callers for tokens. */}}
{{- define "plumbline.isServer" -}}
{{- if hasKey .root.Values.services .component -}}true{{- end -}}
{{- end -}}

{{/* Broker. Context of all: the root. */}}

{{- define "plumbline.broker.environment" -}}
{{- $entries := list -}}
{{- $external := .Values.externalRedis -}}
{{- if .Values.valkey.enabled -}}
{{- $host := include "plumbline.host" (dict "root" . "component" "valkey") -}}
{{- $entries = append $entries (dict "name" "REDIS_PASSWORD" "secret" (include "plumbline.valkey.secret" .) "key" .Values.valkey.secretKey) -}}
{{- $entries = append $entries (dict "name" "REDIS_URL" "value" (printf "redis://:$(REDIS_PASSWORD)@%s:6379/0" $host)) -}}
{{- else if not $external.host -}}
{{- $entries = append $entries (dict "name" "REDIS_URL" "secret" $external.existingSecret "key" $external.urlKey) -}}
{{- else -}}
{{- $user := "" -}}
{{- if $external.existingSecret -}}
{{- $entries = append $entries (dict "name" "REDIS_PASSWORD" "secret" $external.existingSecret "key" $external.passwordKey) -}}
{{- $user = printf "%s:$(REDIS_PASSWORD)@" $external.username -}}
{{- end -}}
{{- $scheme := ternary "rediss" "redis" $external.tls.enabled -}}
{{- $query := "" -}}
{{- if $external.tls.enabled -}}
{{- $query = "?ssl_cert_reqs=required" -}}
{{- with $external.tls.caSecret -}}
{{- $query = printf "%s&ssl_ca_certs=/etc/plumbline/redis-ca/ca.crt" $query -}}
{{- end -}}
{{- end -}}
{{- $url := printf "%s://%s%s:%d/%d%s" $scheme $user $external.host (int $external.port) (int $external.database) $query -}}
{{- $entries = append $entries (dict "name" "REDIS_URL" "value" $url) -}}
{{- end -}}
{{- toYaml $entries -}}
{{- end -}}

{{- define "plumbline.broker.caSecret" -}}
{{- if not .Values.valkey.enabled -}}{{- .Values.externalRedis.tls.caSecret -}}{{- end -}}
{{- end -}}

{{/* Object store. Context of all: the root. */}}

{{- define "plumbline.store.environment" -}}
{{- $secret := include "plumbline.store.secret" . -}}
{{- $keys := include "plumbline.store.secretKeys" . | fromYaml -}}
{{- toYaml (list
      (dict "name" "PLUMBLINE_S3_ACCESS_KEY" "secret" $secret "key" $keys.access)
      (dict "name" "PLUMBLINE_S3_SECRET_KEY" "secret" $secret "key" $keys.secret)) -}}
{{- end -}}

{{- define "plumbline.store.secretKeys" -}}
{{- $store := ternary .Values.objectStore .Values.externalObjectStore .Values.objectStore.enabled -}}
access: {{ $store.accessKeyKey }}
secret: {{ $store.secretKeyKey }}
{{- end -}}

{{- define "plumbline.store.caSecret" -}}
{{- if not .Values.objectStore.enabled -}}{{- .Values.externalObjectStore.caSecret -}}{{- end -}}
{{- end -}}

{{/*
Tokens. Servers read who may do what from a file. Only the parts that call others carry a token; the
HTTP front never acts in its own name.
*/}}
{{- define "plumbline.auth.environment" -}}
{{- $entries := list -}}
{{- if .root.Values.auth.enabled -}}
{{- $secret := include "plumbline.auth.secret" .root -}}
{{- if include "plumbline.isServer" . -}}
{{- $entries = append $entries (dict "name" "PLUMBLINE_TOKENS_FILE" "value" "/etc/plumbline/auth/tokens.json") -}}
{{- end -}}
{{- with include "plumbline.auth.tokenKey" . -}}
{{- $entries = append $entries (dict "name" "PLUMBLINE_TOKEN" "secret" $secret "key" .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $entries -}}
{{- end -}}

{{/* Key of the token that a component calls others with; empty for those who call nobody. */}}
{{- define "plumbline.auth.tokenKey" -}}
{{- if eq .component "helm-test" -}}
check-token
{{- else if or (has .component (list "reward" "retriever" "training")) (hasPrefix "worker-" .component) -}}
internal-token
{{- end -}}
{{- end -}}

{{/* mTLS: a server asks for a certificate of the CA, a client shows one. The files' names are
those of cert-manager and of `kubectl create secret tls`. */}}
{{- define "plumbline.tls.environment" -}}
{{- $entries := list -}}
{{- if include "plumbline.tls.applies" . -}}
{{- range $name, $file := dict "CERT" "tls.crt" "KEY" "tls.key" "CA" "ca.crt" -}}
{{- $entries = append $entries (dict "name" (printf "PLUMBLINE_TLS_%s" $name) "value" (printf "/etc/plumbline/tls/%s" $file)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $entries -}}
{{- end -}}

{{/* Triton's pods speak to the store alone. */}}
{{- define "plumbline.tls.applies" -}}
{{- if and (ne .root.Values.tls.mode "none") (ne .component "triton") -}}true{{- end -}}
{{- end -}}

{{/* Secret with the certificate of a component: servers' and clients' differ. */}}
{{- define "plumbline.tls.secret" -}}
{{- $tls := .root.Values.tls -}}
{{- $serves := or (include "plumbline.isServer" .) (eq .component "openai-front") -}}
{{- if eq $tls.mode "existingSecret" -}}
{{- ternary $tls.existingSecret ($tls.clientExistingSecret | default $tls.existingSecret) (not (not $serves)) -}}
{{- else -}}
{{- printf "%s-%s-tls" (include "plumbline.fullname" .root) (ternary "server" "client" (not (not $serves))) -}}
{{- end -}}
{{- end -}}

{{/* host:port of Triton's gRPC endpoint: the release's own, or another. Context: the root. */}}
{{- define "plumbline.triton.target" -}}
{{- if .Values.triton.enabled -}}
{{- printf "%s:8001" (include "plumbline.host" (dict "root" . "component" "triton")) -}}
{{- else -}}
{{- required "a service has backend=triton: set triton.enabled=true, or triton.externalTarget to host:port of another Triton's gRPC endpoint" .Values.triton.externalTarget -}}
{{- end -}}
{{- end -}}
