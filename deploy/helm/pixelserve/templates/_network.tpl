{{/* Egress of the servers. They connect to nothing by themselves: without a source or a collector the list is empty. */}}
{{- define "pixelserve.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $pulls := eq .Values.models.source "pull" -}}
{{- if or $pulls .Values.server.settings.trace_endpoint $policy.extraEgress }}
{{ include "pixelserve.dnsRule" . }}
{{- end }}
{{- if $pulls }}
- to: {{- toYaml $policy.modelSource | nindent 4 }}
  ports:
    {{- range $policy.modelSourcePorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pixelserve.dnsRule" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}
