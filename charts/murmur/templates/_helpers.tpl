{{/* The name that all objects of a release start with. */}}
{{- define "murmur.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of every object; component is the part: (list . "operator"). */}}
{{- define "murmur.labels" -}}
{{ include "murmur.selector" . }}
app.kubernetes.io/part-of: murmur
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* Labels that pods are selected by: they never change. */}}
{{- define "murmur.selector" -}}
app.kubernetes.io/name: {{ printf "murmur-%s" (index . 1) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end }}

{{/* One of our images: (list . "operator"). */}}
{{- define "murmur.image" -}}
{{- $image := (index . 0).Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}murmur/{{ index . 1 }}:{{ default (index . 0).Chart.AppVersion $image.tag }}
{{- end }}

{{- define "murmur.trustName" -}}
{{- default (include "murmur.fullname" .) .Values.trust.name -}}
{{- end }}

{{- define "murmur.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "murmur.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end }}

{{/* How many copies of each event a mesh keeps by default. */}}
{{- define "murmur.eventStoreReplicas" -}}
{{- $broker := ternary .Values.nats.replicas 5 .Values.nats.enabled | int -}}
{{- $copies := .Values.eventStore.replicas | default (ternary .Values.nats.replicas 3 .Values.nats.enabled) | int -}}
{{- if gt $copies $broker -}}
{{- fail (printf "eventStore.replicas is %d, but nats.replicas is %d: no more copies than servers" $copies $broker) -}}
{{- end -}}
{{- $copies -}}
{{- end }}

{{/* A quantity such as 20Gi as a number of bytes. */}}
{{- define "murmur.bytes" -}}
{{- $units := dict "" 1 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $quantity := toString . -}}
{{- mul (regexFind "^[0-9]+" $quantity | int64) (get $units (regexFind "[KMGT]?i?$" $quantity)) -}}
{{- end }}

{{/* Security context of a pod: Pod Security `restricted`. */}}
{{- define "murmur.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "murmur.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where pods run: (list . .Values.operator). */}}
{{- define "murmur.placement" -}}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with (index . 1).nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The settings of the operator, for itself and for `helm test`. */}}
{{- define "murmur.operatorEnvironment" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: MURMUR_NATS_URL, value: {{ include "murmur.natsUrl" . | quote }}}
- {name: MURMUR_SIDECAR_IMAGE, value: {{ include "murmur.image" (list . "sidecar") | quote }}}
- {name: MURMUR_SIDECAR_UPGRADES_AT_ONCE, value: {{ .Values.operator.sidecarUpgradesAtOnce | quote }}}
{{- with .Values.tracing.otlpEndpoint }}
- {name: MURMUR_SIDECAR_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: MURMUR_SIDECAR_TRACE_SAMPLE_RATIO, value: {{ $.Values.tracing.sampleRatio | quote }}}
{{- end }}
- {name: MURMUR_POSTGRES_IMAGE, value: {{ .Values.databases.postgres.repository | quote }}}
- {name: MURMUR_POSTGRES_VERSION, value: {{ .Values.databases.postgres.version | quote }}}
- {name: MURMUR_MARIADB_IMAGE, value: {{ .Values.databases.mariadb.repository | quote }}}
- {name: MURMUR_MARIADB_VERSION, value: {{ .Values.databases.mariadb.version | quote }}}
- {name: MURMUR_REDIS_IMAGE, value: {{ .Values.databases.redis.repository | quote }}}
- {name: MURMUR_REDIS_VERSION, value: {{ .Values.databases.redis.version | quote }}}
- {name: MURMUR_CLI_IMAGE, value: {{ include "murmur.image" (list . "operator") | quote }}}
- {name: MURMUR_TRUST_NAME, value: {{ include "murmur.trustName" . | quote }}}
- {name: MURMUR_TRUST_CREATE, value: {{ .Values.nats.enabled | quote }}}
- {name: MURMUR_LEASE_NAME, value: {{ printf "%s-operator" (include "murmur.fullname" .) | quote }}}
- {name: MURMUR_MESH_REPLICAS, value: {{ include "murmur.eventStoreReplicas" . | quote }}}
- {name: MURMUR_MESH_MAX_BYTES, value: {{ .Values.eventStore.maxBytes | quote }}}
- {name: MURMUR_MESH_DUPLICATE_WINDOW, value: {{ .Values.eventStore.duplicateWindow | quote }}}
- {name: MURMUR_LOG_LEVEL, value: {{ .Values.operator.logLevel | quote }}}
{{- end }}
