{{/* Where clients of this release find it. */}}
{{- define "pixelserve.host" -}}
{{ include "pixelserve.fullname" . }}{{ if .Values.envoy.enabled }}-envoy{{ end }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "pixelserve.testModel" -}}
{{- default (eq .Values.models.source "baked" | ternary "mnist-cnn" "") .Values.tests.model -}}
{{- end -}}

{{/* The chart has no client certificate, so there are no tests with mutual TLS. */}}
{{- define "pixelserve.hasTests" -}}
{{- if and .Values.tests.enabled (not .Values.tls.clientCaSecret) -}}true{{- end -}}
{{- end -}}

{{/* A helm test. Takes root, name, and the command as YAML. */}}
{{- define "pixelserve.test" }}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "pixelserve.metadata" (dict "root" .root "suffix" (printf "test-%s" .name) "component" "test") | nindent 2 }}
  annotations:
    helm.sh/hook: test
    # Kept for its log: `helm test --logs` shows no Job's.
    helm.sh/hook-delete-policy: before-hook-creation
    {{- include "pixelserve.digestNote" . | nindent 4 }}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: 120
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels: {{- include "pixelserve.testSelector" .root | nindent 8 }}
    spec: {{- include "pixelserve.testPodSpec" . | nindent 6 }}
{{- end -}}

{{- define "pixelserve.testSelector" -}}
{{ include "pixelserve.selector" . }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "pixelserve.testPodSpec" -}}
restartPolicy: Never
serviceAccountName: {{ include "pixelserve.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "pixelserve.podSecurity" . | nindent 2 }}
{{- include "pixelserve.nodes" .root.Values }}
containers:
  - name: {{ .name }}
    image: {{ include "pixelserve.serverImage" (dict "root" .root "track" "stable") }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    {{- .command | nindent 4 }}
    env: [{name: LANG, value: C.UTF-8}]
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {cpu: "1", memory: 256Mi}
    securityContext: {{- include "pixelserve.containerSecurity" . | nindent 6 }}
    volumeMounts: [{name: client, mountPath: /etc/client, readOnly: true}]
volumes:
  - name: client
    projected:
      defaultMode: 0440
      sources:
        - secret: {name: {{ include "pixelserve.clientTokensSecret" .root }}, items: [{key: infer, path: token}]}
        {{- with .root.Values.tls.existingSecret }}
        - secret: {name: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
        {{- end }}
{{- end -}}
