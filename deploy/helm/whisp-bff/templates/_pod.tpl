{{- define "whisp-bff.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 55 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "whisp-bff.secretName" -}}
{{- .Values.secret.existing | default (include "whisp-bff.fullname" .) -}}
{{- end -}}

{{- define "whisp-bff.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "whisp-bff.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "whisp-bff.ownLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: bff
{{- end -}}

{{- define "whisp-bff.labels" -}}
{{ include "whisp-bff.ownLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The labels of the pods that whisp-bff runs in. */}}
{{- define "whisp-bff.selectorLabels" -}}
{{- if eq .Values.mode "sidecar" -}}
{{- toYaml .Values.sidecar.selectorLabels -}}
{{- else -}}
{{- include "whisp-bff.ownLabels" . -}}
{{- end -}}
{{- end -}}

{{/* Not empty where the pods' labels are known, so that Services can be made. */}}
{{- define "whisp-bff.selectable" -}}
{{- if or (eq .Values.mode "standalone") .Values.sidecar.selectorLabels }}yes{{ end -}}
{{- end -}}

{{- define "whisp-bff.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "whisp-bff.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ int . }}
{{- end }}
{{- with .Values.podSecurity.runAsGroup }}
runAsGroup: {{ int . }}
{{- end }}
{{- end -}}

{{/*
The annotations that make a change of the configuration a rollout.
*/}}
{{- define "whisp-bff.podAnnotations" -}}
{{- if eq .Values.configChange "restart" -}}
checksum/whisp-bff-config: {{ include "whisp-bff.config" . | sha256sum }}
checksum/whisp-bff-secret: {{ toYaml .Values.secret.values | sha256sum }}
{{- end -}}
{{- end -}}

{{/*
The container, for the chart's own Deployment and for an app's. An app's chart
calls it with the subchart's scope: index .Subcharts "whisp-bff".
*/}}
{{- define "whisp-bff.container" -}}
{{- include "whisp-bff.check" . -}}
{{- $config := include "whisp-bff.configValues" . | fromYaml -}}
name: whisp-bff
image: {{ include "whisp-bff.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/whisp-bff/config.yaml]
ports:
  - {name: bff-http, containerPort: {{ include "whisp-bff.port" $config.server.listen }}, protocol: TCP}
  - {name: bff-admin, containerPort: {{ include "whisp-bff.port" $config.server.admin_listen }}, protocol: TCP}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "whisp-bff.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
startupProbe:
  httpGet: {path: /healthz, port: bff-admin}
  {{- toYaml .Values.probes.startup | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: bff-admin}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: bff-admin}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
{{- with int .Values.preStopSeconds }}
lifecycle:
  preStop: {sleep: {seconds: {{ . }}}}
{{- end }}
volumeMounts:
  - {name: whisp-bff-config, mountPath: /etc/whisp-bff, readOnly: true}
  - {name: whisp-bff-secrets, mountPath: {{ include "whisp-bff.secretDir" . }}, readOnly: true}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "whisp-bff.volumes" -}}
- name: whisp-bff-config
  configMap: {name: {{ include "whisp-bff.fullname" . }}}
- name: whisp-bff-secrets
  secret: {secretName: {{ include "whisp-bff.secretName" . }}, defaultMode: 0440}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
