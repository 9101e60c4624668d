{{/* Contradictions in the values of broker, store, tokens, TLS, Triton and monitoring. */}}

{{- define "plumbline.checks.connections" -}}
{{- $redis := .Values.externalRedis -}}
{{- $named := or $redis.host $redis.existingSecret -}}
{{- if and .Values.valkey.enabled $named -}}
{{- fail "valkey.enabled=true and externalRedis is filled in too; accepted: one broker. Set valkey.enabled=false or empty externalRedis.host and externalRedis.existingSecret" -}}
{{- end -}}
{{- if not (or .Values.valkey.enabled $named) -}}
{{- fail "there is no broker: set valkey.enabled=true, or externalRedis.existingSecret to a Secret with the URL of your own, or externalRedis.host" -}}
{{- end -}}
{{- if and $redis.tls.caSecret (not $redis.tls.enabled) $redis.host -}}
{{- fail (printf "externalRedis.tls.caSecret=%q needs externalRedis.tls.enabled=true" $redis.tls.caSecret) -}}
{{- end -}}
{{- $store := .Values.externalObjectStore -}}
{{- if and .Values.objectStore.enabled $store.endpoint -}}
{{- fail (printf "objectStore.enabled=true and externalObjectStore.endpoint=%q; accepted: one store. Set objectStore.enabled=false or empty the endpoint" $store.endpoint) -}}
{{- end -}}
{{- if and .Values.objectStore.enabled (eq .Values.objectStore.server "seaweedfs") (contains "versitygw" .Values.objectStore.image.repository) -}}
{{- fail (printf "objectStore.server=seaweedfs needs an image with weed, and objectStore.image.repository=%q; accepted: such as chrislusf/seaweedfs, 4.18 or later" .Values.objectStore.image.repository) -}}
{{- end -}}
{{- if not .Values.objectStore.enabled -}}
{{- range $key := list "endpoint" "bucket" "existingSecret" -}}
{{- if not (index $store $key) -}}
{{- fail (printf "objectStore.enabled=false needs externalObjectStore.%s: https://host:port, a bucket, and a Secret with its keys" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "plumbline.checks.security" -}}
{{- $tls := .Values.tls -}}
{{- if and (eq $tls.mode "existingSecret") (not $tls.existingSecret) -}}
{{- fail "tls.mode=existingSecret needs tls.existingSecret: a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and (ne $tls.mode "existingSecret") (or $tls.existingSecret $tls.clientExistingSecret) -}}
{{- fail (printf "tls.existingSecret or tls.clientExistingSecret is set, but tls.mode=%s does not use it; accepted: tls.mode=existingSecret" $tls.mode) -}}
{{- end -}}
{{- if and .Values.auth.existingSecret .Values.auth.grants -}}
{{- fail (printf "auth.grants cannot be added to the tokens.json of auth.existingSecret=%q; accepted: one of them" .Values.auth.existingSecret) -}}
{{- end -}}
{{- if and .Values.auth.grants (not .Values.auth.enabled) -}}
{{- fail "auth.grants needs auth.enabled=true" -}}
{{- end -}}
{{- end -}}

{{- define "plumbline.checks.triton" -}}
{{- $triton := .Values.triton -}}
{{- if and $triton.enabled $triton.externalTarget -}}
{{- fail (printf "triton.enabled=true and triton.externalTarget=%q; accepted: one of them" $triton.externalTarget) -}}
{{- end -}}
{{- if $triton.enabled -}}
{{- if not $triton.rewardModels -}}
{{- fail "triton.enabled=true needs triton.rewardModels: {reference, head} of one reward model or two" -}}
{{- end -}}
{{- $heads := list -}}
{{- range $triton.rewardModels -}}
{{- $heads = append $heads (.head | default "") -}}
{{- end -}}
{{- if and (compact $heads) (has "" $heads) -}}
{{- fail "triton.rewardModels names the head of some models only; accepted: heads of all, or of none" -}}
{{- end -}}
{{- $device := $triton.exportSettings.device | default "cpu" -}}
{{- if and (eq $device "gpu") (eq (int $triton.gpus) 0) -}}
{{- fail "triton.exportSettings.device=gpu needs triton.gpus of 1 or more" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "plumbline.checks.monitoring" -}}
{{- if and (not .Values.metrics.enabled) (or .Values.metrics.monitors.enabled .Values.metrics.rules.enabled) -}}
{{- fail "metrics.monitors or metrics.rules is enabled, but metrics.enabled=false serves nothing to scrape" -}}
{{- end -}}
{{- end -}}
