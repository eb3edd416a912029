{{/* The name that the servers' certificate must have; Envoy and the helm tests check it. */}}
{{- define "pixelserve.serverName" -}}
{{ include "pixelserve.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "pixelserve.headlessHost" -}}
{{ include "pixelserve.fullname" .root }}{{ if eq .track "canary" }}-canary{{ end }}-headless.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{- define "pixelserve.envoySelector" -}}
{{ include "pixelserve.selector" . }}
app.kubernetes.io/component: envoy
{{- end -}}

{{- define "pixelserve.envoyConfig" -}}
{{ tpl (.Files.Get "files/envoy.yaml.tpl") . }}
{{- end -}}

{{/*
Tells connections to go and waits for them: Envoy itself ends at SIGTERM with whatever is in flight. Its admin port takes POST
only, which an httpGet hook cannot send.
*/}}
{{- define "pixelserve.envoyDrain" -}}
exec 3<>/dev/tcp/127.0.0.1/9901
printf 'POST /drain_listeners?graceful HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' >&3
sleep {{ addf .Values.server.settleSeconds 5 }}
{{- end -}}
