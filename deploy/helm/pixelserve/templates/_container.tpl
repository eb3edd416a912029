{{/* The server's container. Every template here takes root and track. */}}

{{- define "pixelserve.serverContainer" }}
name: server
image: {{ include "pixelserve.serverImage" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [serve]
env: {{- include "pixelserve.environment" . | nindent 2 }}
ports:
  - {name: grpc, containerPort: 8001}
  - {name: http, containerPort: 8000}
  - {name: metrics, containerPort: 8002}
{{- include "pixelserve.probes" .root }}
resources: {{- include "pixelserve.resources" .root | nindent 2 }}
securityContext: {{- include "pixelserve.containerSecurity" . | nindent 2 }}
volumeMounts: {{- include "pixelserve.mounts" . | nindent 2 }}
{{- end -}}

{{/* Logs and traces carry the pod's name. Text models need UTF-8. ONNX Runtime's telemetry stays off. */}}
{{- define "pixelserve.environment" -}}
- {name: LANG, value: C.UTF-8}
- {name: ORT_DISABLE_TELEMETRY, value: "1"}
- name: PIXELSERVE_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- range $name, $value := include "pixelserve.settings" . | fromYaml }}
- {name: PIXELSERVE_{{ upper $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{/* Settings by their names; numbers as text, since YAML's would come back as 6e+02. */}}
{{- define "pixelserve.settings" -}}
{{- $values := .root.Values -}}
host: {{ $values.server.host | quote }}
model_repository: {{ include "pixelserve.modelRepository" .root }}
tokens: /etc/pixelserve/tokens/tokens
drain_settle_s: {{ $values.server.settleSeconds | toString | quote }}
grace_s: {{ $values.server.graceSeconds | toString | quote }}
max_connection_age_s: {{ $values.server.maxConnectionAgeSeconds | toString | quote }}
{{- if $values.tls.existingSecret }}
tls_cert: /etc/pixelserve/tls/tls.crt
tls_key: /etc/pixelserve/tls/tls.key
{{- with $values.tls.clientCaSecret }}
tls_client_ca: /etc/pixelserve/client-ca/ca.crt
{{- end }}
{{- else }}
insecure: "true"
{{- end }}
{{- if $values.gpu.enabled }}
device: cuda
require_gpu: "true"
{{- end }}
{{- if $values.sharedMemory.enabled }}
system_shared_memory: "true"
{{- end }}
{{- range $name, $value := $values.server.settings }}
{{ $name }}: {{ include "pixelserve.settingText" $value | quote }}
{{- end }}
{{- end -}}

{{/* Helm reads numbers as floats: 1600000000 would become 1.6e+09, which is not a whole number to the server. */}}
{{- define "pixelserve.settingText" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "pixelserve.controlMode" -}}
{{- .Values.server.settings.model_control_mode | default "none" -}}
{{- end -}}

{{/*
Startup waits for the process, which answers /live while models load; a slow load must not be killed. Readiness asks the
door that clients use, but kubelets cannot ask gRPC over TLS. Liveness is patient: only a process that hangs is killed.
*/}}
{{- define "pixelserve.probes" }}
startupProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  {{- if .Values.tls.existingSecret }}
  httpGet: {path: /ready, port: metrics}
  {{- else }}
  grpc: {port: 8001}
  {{- end }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- define "pixelserve.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if .Values.gpu.enabled -}}
{{- $gpus := dict "nvidia.com/gpu" (.Values.gpu.count | toString) -}}
{{- $resources = mergeOverwrite $resources (dict "limits" $gpus "requests" $gpus) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Secrets are mounted whole: a subPath mount never sees a renewed certificate or a revoked token. */}}
{{- define "pixelserve.mounts" -}}
- {name: tokens, mountPath: /etc/pixelserve/tokens, readOnly: true}
{{- if .root.Values.tls.existingSecret }}
- {name: tls, mountPath: /etc/pixelserve/tls, readOnly: true}
{{- end }}
{{- if .root.Values.tls.clientCaSecret }}
- {name: client-ca, mountPath: /etc/pixelserve/client-ca, readOnly: true}
{{- end }}
{{- if .root.Values.sharedMemory.enabled }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- if eq (include "pixelserve.controlMode" .root) "explicit" }}
- {name: tmp, mountPath: /tmp}
{{- end }}
{{- include "pixelserve.modelMount" . }}
{{- end -}}
