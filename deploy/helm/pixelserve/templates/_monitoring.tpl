{{/* Metadata by which a Prometheus selects monitors and rules. Takes root and suffix. */}}
{{- define "pixelserve.monitoringMetadata" -}}
{{ include "pixelserve.metadata" (dict "root" .root "suffix" .suffix "component" "monitoring") }}
{{- with .root.Values.metrics.labels }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Mean number of requests waiting (Little's law): seconds that requests waited, for each second. Takes the labels. */}}
{{- define "pixelserve.waiting" -}}
rate(pixelserve_queue_duration_seconds_sum{{ printf "{%s}" . }}[1m])
{{- end -}}
