{{/* A Deployment of servers. Takes root, track, suffix, replicas, and scaled: an autoscaler sets their number. */}}
{{- define "pixelserve.deployment" }}
{{- $values := .root.Values }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "pixelserve.metadata" (dict "root" .root "suffix" .suffix "component" "server") | nindent 2 }}
  {{- if not (contains "@" (include "pixelserve.serverImage" .)) }}
  annotations: {{- include "pixelserve.digestNote" . | nindent 4 }}
  {{- end }}
spec:
  {{- if not .scaled }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # A new pod is ready before an old one goes, so a roll never lowers what the service can take.
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels: {{- include "pixelserve.trackSelector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "pixelserve.trackSelector" . | nindent 8 }}
        app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: server
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec: {{- include "pixelserve.podSpec" . | nindent 6 }}
{{- end -}}
