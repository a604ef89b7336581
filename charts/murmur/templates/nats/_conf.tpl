{{/* The configuration of nats-server. */}}
{{- define "murmur.natsConf" -}}
{{- $name := printf "%s-nats" (include "murmur.fullname" .) }}
{{- $nats := .Values.nats }}
{{- $disk := include "murmur.bytes" $nats.storage.size | int64 }}
{{- $store := div (mul $disk 8) 10 }}
{{- with $nats.jetstream.maxFileStore }}
{{- $store = include "murmur.bytes" . | int64 }}
{{- end }}
{{- if gt $store $disk }}
{{- fail (printf "nats.jetstream.maxFileStore is %s, but the volume, nats.storage.size, only %s" $nats.jetstream.maxFileStore $nats.storage.size) }}
{{- end }}
server_name: $POD_NAME
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
pid_file: "/var/run/nats/nats.pid"
max_payload: {{ include "murmur.bytes" $nats.maxPayload }}
# A client sends its JWT on one line, and with it the permissions of all its subscriptions: the default of 4 KB holds few.
max_control_line: 1048576

# whom the bus trusts: the operator, the system account, and where accounts are kept (written by Murmur's operator)
include "auth/auth.conf"

jetstream {
  # One server alone and a cluster each have a folder of their own: a cluster deletes streams that it does not know.
  store_dir: "/data/{{ ternary "alone" "cluster" (eq (int $nats.replicas) 1) }}"
  max_file_store: {{ $store }}
  max_memory_store: {{ include "murmur.bytes" $nats.jetstream.maxMemoryStore }}
  sync_interval: "{{ $nats.jetstream.syncInterval }}"
}
# the layout of the acknowledgements that sidecars may publish
feature_flags { js_ack_fc_v2: false }
{{- if gt (int $nats.replicas) 1 }}

cluster {
  name: {{ $name }}
  listen: "0.0.0.0:6222"
  no_advertise: true
  routes: [
    {{- range until (int $nats.replicas) }}
    "nats://{{ $name }}-{{ . }}.{{ $name }}-pods.{{ $.Release.Namespace }}.svc:6222"
    {{- end }}
  ]
}
# before it ends a server hands its streams and its clients to the others
lame_duck_grace_period: 5s
lame_duck_duration: 30s
{{- end }}
{{- end }}
