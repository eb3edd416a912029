{{/* Up fast, since a queue grows within seconds; down one pod a minute, once five minutes have shown that fewer are enough. */}}
{{- define "pixelserve.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 2, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{/* Whether anything arrives: the caller's query, or Envoy's. */}}
{{- define "pixelserve.activationQuery" -}}
{{- if .Values.keda.activationQuery -}}{{ .Values.keda.activationQuery }}
{{- else -}}
sum(rate(envoy_http_downstream_rq_total{namespace="{{ .Release.Namespace }}",pod=~"{{ include "pixelserve.fullname" . }}-envoy-.*",envoy_http_conn_manager_prefix="pixelserve"}[1m]))
{{- end -}}
{{- end -}}
