{{/*
The configuration file: the values below "config", and what the chart knows
better. What stands in "config" wins, key by key: a secret there is taken as it
is, and not mixed with the file that the chart would name.
*/}}
{{- define "whisp-bff.config" -}}
{{- toYaml (include "whisp-bff.configValues" . | fromYaml) -}}
{{- end -}}

{{- define "whisp-bff.configValues" -}}
{{- $keys := .Values.secret.keys -}}
{{- $computed := dict
  "server" (dict "listen" ":8080" "admin_listen" ":9090" "shutdown_delay" "5s")
  "whisp" (dict "api_keys" (include "whisp-bff.files" $keys.apiKeys | fromYamlArray))
  "account" (dict "master_secrets" (include "whisp-bff.files" $keys.masterSecrets | fromYamlArray)) -}}
{{- if $keys.adminToken -}}
{{- $_ := set $computed.server "admin_token" (include "whisp-bff.file" $keys.adminToken | fromYaml) -}}
{{- end -}}
{{- if and $keys.clientSecret (include "whisp-bff.logsIn" .) -}}
{{- $_ := set $computed "login" (dict "client_secret" (include "whisp-bff.file" $keys.clientSecret | fromYaml)) -}}
{{- end -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $_ := set $computed "app" (dict "url" (printf "http://127.0.0.1:%d" (int .Values.sidecar.appPort))) -}}
{{- end -}}
{{- if .Values.redis.url -}}
{{- if .Values.config.store -}}
{{- fail "redis.url and config.store are both set, and would be two stores in one: write all of the store in config.store, or only redis.url" -}}
{{- end -}}
{{- $_ := set $computed "store" (include "whisp-bff.store" . | fromYaml) -}}
{{- end -}}
{{- $config := deepCopy .Values.config -}}
{{- range $name, $section := $computed -}}
{{- $own := get $config $name | default dict -}}
{{- range $key, $value := $section -}}
{{- if kindIs "invalid" (index $own $key) }}{{ $_ := set $own $key $value }}{{ end -}}
{{- end -}}
{{- $_ := set $config $name $own -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "whisp-bff.secretDir" -}}/run/secrets/whisp-bff{{- end -}}

{{- define "whisp-bff.file" -}}
file: {{ include "whisp-bff.secretDir" . }}/{{ . }}
{{- end -}}

{{- define "whisp-bff.files" -}}
{{- range . }}
- {{ include "whisp-bff.file" . }}
{{- end }}
{{- end -}}

{{/* Not empty if people log in here, and not elsewhere. */}}
{{- define "whisp-bff.logsIn" -}}
{{- $identity := .Values.config.identity | default dict -}}
{{- if has "session" ($identity.sources | default (list "session")) }}yes{{ end -}}
{{- end -}}

{{- define "whisp-bff.store" -}}
{{- $url := urlParse .Values.redis.url -}}
{{- if not (has $url.scheme (list "redis" "rediss")) -}}
{{- fail (printf "redis.url begins with %s://; write redis:// or, with TLS, rediss://" $url.scheme) -}}
{{- end -}}
{{- if contains ":" $url.userinfo -}}
{{- fail "redis.url has a password in it: put it into the Secret, and name its key in secret.keys.redisPassword" -}}
{{- end -}}
{{- if not .Values.secret.keys.sealKeys -}}
{{- fail "redis.url needs secret.keys.sealKeys: what lies in Redis is encrypted" -}}
{{- end -}}
kind: redis
redis:
  addresses: [{{ ternary $url.host (printf "%s:6379" $url.host) (regexMatch ":[0-9]+$" $url.host) | quote }}]
  {{- with $url.userinfo }}
  username: {{ . | quote }}
  {{- end }}
  {{- with trimPrefix "/" $url.path }}
  db: {{ int . }}
  {{- end }}
  {{- if eq $url.scheme "rediss" }}
  tls: {enabled: true}
  {{- end }}
  {{- with .Values.secret.keys.redisPassword }}
  password:
    {{- include "whisp-bff.file" . | nindent 4 }}
  {{- end }}
seal_keys: {{- include "whisp-bff.files" .Values.secret.keys.sealKeys | nindent 2 }}
{{- end -}}

{{/*
Where a value has secrets written out, one path a line: it is given the value
and its path. In the maps that are not looked into, every key is a name of
somebody's choice: of a header, a claim or a parameter.
*/}}
{{- define "whisp-bff.writtenOut" -}}
{{- $value := index . 0 -}}
{{- $path := index . 1 -}}
{{- if kindIs "slice" $value -}}
{{- range $i, $inner := $value }}{{ include "whisp-bff.writtenOut" (list $inner (printf "%s[%d]" $path $i)) }}{{ end -}}
{{- else if kindIs "map" $value -}}
{{- range $key, $inner := $value -}}
{{- if and (eq $key "value") (not (kindIs "map" $inner)) }}{{ println $path -}}
{{- else if not (has $key (list "headers" "claims" "list_claims" "extra_authorize_params")) -}}
{{- include "whisp-bff.writtenOut" (list $inner (printf "%s.%s" $path $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Mistakes that would only show at run time, or to the people who use the app.
*/}}
{{- define "whisp-bff.check" -}}
{{- with include "whisp-bff.writtenOut" (list .Values.config "config") | trim -}}
{{- fail (printf "%s: a secret written out, which everybody sees who may read ConfigMaps; put it into the Secret (secret.existing) and write {file: %s/<its key>}, or {env: <variable>} with extraEnv" (splitList "\n" . | join ", ") (include "whisp-bff.secretDir" .)) -}}
{{- end -}}
{{- $config := include "whisp-bff.configValues" . | fromYaml -}}
{{- if and .Values.secret.existing .Values.secret.values -}}
{{- fail "secret.existing and secret.values are both set: name a Secret of yours, or have one made, not both" -}}
{{- end -}}
{{- if not (or .Values.secret.existing .Values.secret.values) -}}
{{- fail "there is no Secret: make one (whisp-bff keygen writes what goes in) and name it in secret.existing" -}}
{{- end -}}
{{- if .Values.secret.values -}}
{{- range (include "whisp-bff.secretKeys" . | fromYamlArray) -}}
{{- if not (index $.Values.secret.values .) -}}
{{- fail (printf "secret.values has no %s; give it, or take the key out of secret.keys" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $many := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- if and $many (ne (dig "store" "kind" "memory" $config) "redis") -}}
{{- fail (printf "%s, but sessions are kept in the memory of one pod: set redis.url (or config.store), or replicas: 1" (ternary "autoscaling is enabled" (printf "replicas is %d" (int .Values.replicas)) .Values.autoscaling.enabled)) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is larger than autoscaling.maxReplicas" -}}
{{- end -}}
{{- range $name, $url := dict "config.public_url" (dig "public_url" "" $config) "config.whisp.url" (dig "whisp" "url" "" $config) "config.app.url" (dig "app" "url" "" $config) -}}
{{- if not $url -}}
{{- fail (printf "%s is missing" $name) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost|\\[::1\\])" $config.server.admin_listen -}}
{{- fail "config.server.admin_listen is on loopback, where neither probes nor Prometheus reach it: leave it out" -}}
{{- end -}}
{{- if and (eq .Values.mode "standalone") (regexMatch "^(127\\.|localhost|\\[::1\\])" $config.server.listen) -}}
{{- fail "config.server.listen is on loopback, where the Service does not reach it: leave it out" -}}
{{- end -}}
{{- end -}}

{{/* The keys that the Secret must have: what the configuration reads from it. */}}
{{- define "whisp-bff.secretKeys" -}}
{{- $files := regexFindAll (printf "%s/[-._a-zA-Z0-9]+" (include "whisp-bff.secretDir" .)) (include "whisp-bff.configValues" .) -1 -}}
{{- range $files | uniq }}
- {{ base . | quote }}
{{- end }}
{{- end -}}

{{/* Whole seconds, rounded up, of a duration such as 300ms, 1m30s or 12h. */}}
{{- define "whisp-bff.seconds" -}}
{{- $ms := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h|d)" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $factor := index (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) $unit -}}
{{- $ms = addf $ms (mulf (trimSuffix $unit . | float64) $factor) -}}
{{- end -}}
{{- divf $ms 1000 | ceil | int -}}
{{- end -}}

{{/*
What a pod may take to end: preStop, then server.shutdown_delay, realtime.drain
and server.shutdown_timeout one after the other, and ten seconds for the rest.
The defaults are whisp-bff's own.
*/}}
{{- define "whisp-bff.terminationGracePeriodSeconds" -}}
{{- $config := include "whisp-bff.configValues" . | fromYaml -}}
{{- add (int .Values.preStopSeconds)
  (include "whisp-bff.seconds" (dig "server" "shutdown_delay" "0s" $config | toString) | int)
  (include "whisp-bff.seconds" (dig "realtime" "drain" "20s" $config | toString) | int)
  (include "whisp-bff.seconds" (dig "server" "shutdown_timeout" "15s" $config | toString) | int)
  10 -}}
{{- end -}}

{{/* For a sidecar's app: how long it must still answer after SIGTERM. */}}
{{- define "whisp-bff.appPreStopSeconds" -}}
{{- sub (include "whisp-bff.terminationGracePeriodSeconds" . | int) 10 -}}
{{- end -}}

{{- define "whisp-bff.port" -}}
{{- last (splitList ":" .) -}}
{{- end -}}

{{/* The port of a URL. */}}
{{- define "whisp-bff.urlPort" -}}
{{- $url := urlParse . -}}
{{- if regexMatch ":[0-9]+$" $url.host }}{{ include "whisp-bff.port" $url.host }}{{ else }}{{ ternary "443" "80" (eq $url.scheme "https") }}{{ end -}}
{{- end -}}

{{- define "whisp-bff.publicHost" -}}
{{- regexReplaceAll ":[0-9]+$" (urlParse .Values.config.public_url).host "" -}}
{{- end -}}
