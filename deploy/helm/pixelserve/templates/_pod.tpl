{{/* The server's pod. Every template here takes root and track (stable or canary). */}}

{{- define "pixelserve.podSpec" -}}
serviceAccountName: {{ include "pixelserve.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "pixelserve.terminationGrace" .root }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "pixelserve.podSecurity" . | nindent 2 }}
{{- include "pixelserve.placement" . }}
{{- if eq .root.Values.models.source "pull" }}
initContainers: {{- include "pixelserve.pullContainers" . | trim | nindent 2 }}
{{- end }}
containers:
  - {{ include "pixelserve.serverContainer" . | indent 4 | trim }}
  {{- with .root.Values.sidecars }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes: {{- include "pixelserve.volumes" . | nindent 2 }}
{{- end -}}

{{- define "pixelserve.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "pixelserve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Settle, grace, and the 2 seconds by which the process always ends (docs/operations.md, Stopping). */}}
{{- define "pixelserve.leastTerminationGrace" -}}
{{- addf .Values.server.settleSeconds .Values.server.graceSeconds 2 | ceil | int64 -}}
{{- end -}}

{{- define "pixelserve.terminationGrace" -}}
{{- default (include "pixelserve.leastTerminationGrace" .) .Values.server.terminationGracePeriodSeconds | int64 -}}
{{- end -}}

{{/*
Over zones and hosts. ScheduleAnyway: after a zone is lost, crowded pods serve better than pending ones. Each revision is
spread by itself, or the pods that a rollout replaces would count as well. Takes the selector.
*/}}
{{- define "pixelserve.spread" -}}
{{- $selector := . -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- $selector | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{- define "pixelserve.placement" }}
topologySpreadConstraints: {{- include "pixelserve.spread" (include "pixelserve.trackSelector" .) | trim | nindent 2 }}
{{- $values := .root.Values }}
{{- $nodes := $values.nodeSelector }}
{{- $tolerations := $values.tolerations }}
{{- if $values.gpu.enabled }}
{{- $nodes = merge (deepCopy $nodes) $values.gpu.nodeSelector }}
{{- $tolerations = concat $tolerations $values.gpu.tolerations }}
{{- with $values.gpu.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}
{{- include "pixelserve.nodes" (dict "nodeSelector" $nodes "tolerations" $tolerations "affinity" $values.affinity) }}
{{- end -}}

{{/* Which nodes a pod may run on. Takes nodeSelector, tolerations and affinity, as all values have them. */}}
{{- define "pixelserve.nodes" }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "pixelserve.trackSelector" -}}
{{ include "pixelserve.serverSelector" .root }}
pixelserve/track: {{ .track }}
{{- end -}}

{{- define "pixelserve.volumes" -}}
- name: tokens
  secret: {secretName: {{ include "pixelserve.tokensSecret" .root }}, defaultMode: 0440}
{{- with .root.Values.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.tls.clientCaSecret }}
- name: client-ca
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if .root.Values.sharedMemory.enabled }}
- name: shared-memory
  emptyDir: {medium: Memory, sizeLimit: {{ .root.Values.sharedMemory.sizeLimit }}}
{{- end }}
{{- if eq (include "pixelserve.controlMode" .root) "explicit" }}
- name: tmp
  emptyDir: {sizeLimit: {{ .root.Values.server.settings.max_load_files_mib | default 2048 }}Mi}
{{- end }}
{{- include "pixelserve.modelVolume" . }}
{{- end -}}
