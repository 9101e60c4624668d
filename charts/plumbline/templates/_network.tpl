{{/*
Who talks to whom. `plumbline.network.flows` is the table: entries {from, to, ports}. A name is a
component, or a party outside of the release that begins with @ and stands in
`plumbline.network.parties`. What the table says follows from what each program connects to: see
`server.py` of the services, and which service a stage calls in the `tasks.py` of each room.
*/}}
{{- define "plumbline.network.flows" -}}
{{- $root := . -}}
{{- $flows := list -}}
{{- $facts := include "plumbline.network.components" . | fromYaml -}}
{{- range $name, $fact := $facts -}}
{{- if or $fact.calls $fact.broker $fact.store $fact.outside -}}
{{- $flows = append $flows (dict "from" $name "to" "@dns") -}}
{{- end -}}
{{- range $fact.calls -}}
{{- $flows = append $flows (dict "from" $name "to" . "ports" (list 50051)) -}}
{{- end -}}
{{- if $fact.broker -}}
{{- $flows = append $flows (dict "from" $name "to" (ternary "valkey" "@redis" $root.Values.valkey.enabled) "ports" (list 6379)) -}}
{{- end -}}
{{- if $fact.store -}}
{{- $flows = append $flows (dict "from" $name "to" (ternary "store" "@store" $root.Values.objectStore.enabled) "ports" (list 8333)) -}}
{{- end -}}
{{- if $fact.triton -}}
{{- $flows = append $flows (dict "from" $name "to" (ternary "triton" "@triton" $root.Values.triton.enabled) "ports" (list 8001)) -}}
{{- end -}}
{{- range $fact.outside -}}
{{- $flows = append $flows (dict "from" $name "to" .) -}}
{{- end -}}
{{- if hasKey $root.Values.services $name -}}
{{- $flows = append $flows (dict "from" "@clients" "to" $name "ports" (list 50051)) -}}
{{- end -}}
{{- with $fact.metrics -}}
{{- $flows = append $flows (dict "from" "@monitoring" "to" $name "ports" (list .)) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $facts "openai-front" -}}
{{- $flows = append $flows (dict "from" "@front-clients" "to" "openai-front" "ports" (list 8000)) -}}
{{- end -}}
{{- if and (hasKey $facts "openai-front") (hasKey $facts "helm-test") -}}
{{- $flows = append $flows (dict "from" "helm-test" "to" "openai-front" "ports" (list 8000)) -}}
{{- end -}}
{{- if hasKey $facts "training" -}}
{{- /* Ranks meet at 29500 and then talk on ports that gloo and NCCL take as they come. */ -}}
{{- $flows = append $flows (dict "from" "training" "to" "training") -}}
{{- end -}}
{{- if and (hasKey $facts "valkey") (include "plumbline.network.scales" .) -}}
{{- $flows = append $flows (dict "from" "@keda" "to" "valkey" "ports" (list 6379)) -}}
{{- end -}}
{{- toYaml $flows -}}
{{- end -}}

{{/* Whether KEDA looks at the queues of some group. */}}
{{- define "plumbline.network.scales" -}}
{{- range .Values.workers -}}
{{- if and .enabled (ne (((.keda | default dict).kind) | default $.Values.workerDefaults.keda.kind) "none") -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What there is in this release and what it connects to, by component: calls (services), broker,
store, triton, outside (parties), metrics (port).
*/}}
{{- define "plumbline.network.components" -}}
{{- $components := dict -}}
{{- $scraped := ternary 9464 0 .Values.metrics.enabled -}}
{{- $outside := ternary (list "@collector") list (ne .Values.tracing.otlpEndpoint "") -}}
{{- range $name, $service := .Values.services -}}
{{- if $service.enabled -}}
{{- $fact := include "plumbline.service.facts" $name | fromYaml -}}
{{- $calls := include "plumbline.network.running" (dict "root" $ "names" (index (dict "reward" (list "sampler") "retriever" (list "sampler" "reward")) $name | default list)) | fromYamlArray -}}
{{- $own := concat $outside (include "plumbline.network.endpoints" (dict "name" $name "service" $service) | fromYamlArray) -}}
{{- $_ := set $components $name (merge (dict "calls" $calls "outside" $own "metrics" $scraped "triton" (eq ($service.backend | default "") "triton")) $fact) -}}
{{- end -}}
{{- end -}}
{{- if .Values.openaiFront.enabled -}}
{{- $_ := set $components "openai-front" (dict "calls" (list "sampler") "outside" $outside "metrics" $scraped) -}}
{{- end -}}
{{- range $group, $values := .Values.workers -}}
{{- if $values.enabled -}}
{{- $launches := and (eq $.Values.launcher.executor "kubernetes") (eq $.Values.launcher.workerGroup $group) -}}
{{- $calls := include "plumbline.network.callsOfQueues" (dict "root" $ "queues" $values.queues) | fromYamlArray -}}
{{- $own := ternary (append $outside "@kubernetes") $outside $launches -}}
{{- $_ := set $components (printf "worker-%s" $group) (dict "calls" $calls "broker" true "store" true "outside" $own "metrics" $scraped) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.launcher.executor "kubernetes" -}}
{{- $queues := include "plumbline.launcher.queues" . | fromYamlArray -}}
{{- $calls := include "plumbline.network.callsOfQueues" (dict "root" . "queues" $queues) | fromYamlArray -}}
{{- $_ := set $components "training" (dict "calls" $calls "broker" true "store" true "outside" $outside) -}}
{{- end -}}
{{- if .Values.valkey.enabled -}}
{{- $_ := set $components "valkey" dict -}}
{{- end -}}
{{- if .Values.objectStore.enabled -}}
{{- $_ := set $components "store" dict -}}
{{- end -}}
{{- if .Values.triton.enabled -}}
{{- $_ := set $components "triton" (dict "store" true "metrics" (ternary 8002 0 .Values.metrics.enabled)) -}}
{{- end -}}
{{- if .Values.tests.enabled -}}
{{- $calls := include "plumbline.network.running" (dict "root" . "names" (keys .Values.services)) | fromYamlArray -}}
{{- $_ := set $components "helm-test" (dict "calls" $calls "store" true) -}}
{{- end -}}
{{- toYaml $components -}}
{{- end -}}

{{/* The services that stages of some queues call, of those that run. Context: root, queues. */}}
{{- define "plumbline.network.callsOfQueues" -}}
{{- $byQueue := dict
  "curation" (list "sampler")
  "sampling" (list "sampler")
  "scoring" (list "reward")
  "training" (list "sampler" "reward")
  "evaluation" (list "sampler" "reward" "retriever")
  "pipeline" list -}}
{{- $names := list -}}
{{- range .queues -}}
{{- $names = concat $names (index $byQueue .) -}}
{{- end -}}
{{- include "plumbline.network.running" (dict "root" .root "names" $names) -}}
{{- end -}}

{{/* Those of some services that run in this release. Context: root, names. */}}
{{- define "plumbline.network.running" -}}
{{- $running := list -}}
{{- range .names | uniq | sortAlpha -}}
{{- if (index $.root.Values.services .).enabled -}}
{{- $running = append $running . -}}
{{- end -}}
{{- end -}}
{{- toYaml $running -}}
{{- end -}}

{{/* Endpoints outside that a service is configured with. Context: name, service. */}}
{{- define "plumbline.network.endpoints" -}}
{{- $parties := list -}}
{{- if and (eq .name "sampler") (eq .service.backend "openai") -}}
{{- $parties = append $parties "@openai" -}}
{{- end -}}
{{- if and (eq .name "retriever") .service.qdrant.url -}}
{{- $parties = append $parties "@qdrant" -}}
{{- end -}}
{{- toYaml $parties -}}
{{- end -}}

{{/* Parties outside of the release: {peers, ports}; ports of a flow win. */}}
{{- define "plumbline.network.parties" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $sampler := .Values.services.sampler.openai.baseUrl -}}
{{- $redisPort := ternary .Values.externalRedis.port $policy.externalRedisPort (ne .Values.externalRedis.host "") -}}
{{- toYaml (dict
      "@clients" (dict "peers" $policy.clients)
      "@front-clients" (dict "peers" ($policy.frontClients | default $policy.clients))
      "@monitoring" (dict "peers" $policy.monitoring)
      "@keda" (dict "peers" $policy.keda)
      "@dns" (dict "peers" $policy.dns.to "ports" $policy.dns.ports "protocols" (list "UDP" "TCP"))
      "@kubernetes" (dict "peers" $policy.apiServer.to "ports" $policy.apiServer.ports)
      "@redis" (dict "peers" $policy.external "ports" (list $redisPort))
      "@store" (dict "peers" $policy.external "ports" (list (include "plumbline.network.port" .Values.externalObjectStore.endpoint)))
      "@triton" (dict "peers" $policy.external "ports" (list (include "plumbline.network.port" (printf "grpc://%s" .Values.triton.externalTarget))))
      "@collector" (dict "peers" $policy.external "ports" (list (include "plumbline.network.port" .Values.tracing.otlpEndpoint)))
      "@openai" (dict "peers" $policy.external "ports" (list (include "plumbline.network.port" $sampler)))
      "@qdrant" (dict "peers" $policy.external "ports" (list (include "plumbline.network.port" .Values.services.retriever.qdrant.url)))) -}}
{{- end -}}

{{/* Port of a URL; its scheme's where it names none. */}}
{{- define "plumbline.network.port" -}}
{{- with . -}}
{{- $parts := urlParse . -}}
{{- $named := regexFind ":[0-9]+$" $parts.host | trimPrefix ":" -}}
{{- $named | default (ternary "443" "80" (eq $parts.scheme "https")) -}}
{{- end -}}
{{- end -}}

{{/* Labels of a component's pods. The launcher names its pods itself, whatever the chart is called. */}}
{{- define "plumbline.network.selector" -}}
{{- if eq .component "training" -}}
app.kubernetes.io/name: plumbline
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: training
{{- else -}}
{{- include "plumbline.selectorLabels" . -}}
{{- end -}}
{{- end -}}

{{/*
Rules of one direction of one component: a rule for each set of ports, with all its peers.
Context: root, flows, parties, component, direction (ingress or egress), extra (rules of the values).
*/}}
{{- define "plumbline.network.rules" -}}
{{- $ingress := eq .direction "ingress" -}}
{{- $peersByPorts := dict -}}
{{- range .flows -}}
{{- if eq (ternary .to .from $ingress) $.component -}}
{{- $other := ternary .from .to $ingress -}}
{{- $party := index $.parties $other | default dict -}}
{{- $peers := $party.peers -}}
{{- if not $party -}}
{{- $labels := include "plumbline.network.selector" (dict "root" $.root "component" $other) | fromYaml -}}
{{- $peers = list (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- $ports := list -}}
{{- range $port := $party.ports | default .ports -}}
{{- range $protocol := $party.protocols | default (list "TCP") -}}
{{- $ports = append $ports (dict "port" (int $port) "protocol" $protocol) -}}
{{- end -}}
{{- end -}}
{{- $key := toJson $ports -}}
{{- $_ := set $peersByPorts $key (concat (index $peersByPorts $key | default list) $peers) -}}
{{- end -}}
{{- end -}}
{{- $rules := list -}}
{{- range $key, $peers := $peersByPorts -}}
{{- $rule := dict (ternary "from" "to" $ingress) $peers -}}
{{- with fromJsonArray $key -}}
{{- $_ := set $rule "ports" . -}}
{{- end -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- toYaml (concat $rules .extra) -}}
{{- end -}}
