{{/* A Service of one track. Takes root, track and suffix; one that ends in headless has the pods' addresses. */}}
{{- define "pixelserve.service" }}
{{- $headless := hasSuffix "headless" .suffix }}
apiVersion: v1
kind: Service
metadata:
  {{- include "pixelserve.metadata" (dict "root" .root "suffix" .suffix "component" "server") | nindent 2 }}
    {{- if $headless }}
    pixelserve/headless: "true"
    {{- end }}
  {{- if not $headless }}
  {{- with .root.Values.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
spec:
  {{- if $headless }}
  clusterIP: None
  {{- else }}
  type: {{ eq .track "canary" | ternary "ClusterIP" .root.Values.service.type }}
  {{- end }}
  selector: {{- include "pixelserve.trackSelector" . | nindent 4 }}
  ports:
    {{- if not .root.Values.tls.existingSecret }}
    - {name: grpc, port: 8001, targetPort: grpc, appProtocol: kubernetes.io/h2c}
    - {name: http, port: 8000, targetPort: http, appProtocol: http}
    {{- else }}
    - {name: grpc, port: 8001, targetPort: grpc, appProtocol: https}
    - {name: http, port: 8000, targetPort: http, appProtocol: https}
    {{- end }}
    {{- if $headless }}
    - {name: metrics, port: 8002, targetPort: metrics, appProtocol: http}
    {{- end }}
{{- end -}}
