{{/* Names of the two Secrets: digests for the server, tokens for its clients. */}}

{{- define "pixelserve.tokensSecret" -}}
{{- default (printf "%s-tokens" (include "pixelserve.fullname" .)) .Values.tokens.existingSecret -}}
{{- end -}}

{{- define "pixelserve.clientTokensSecret" -}}
{{- default (printf "%s-client-tokens" (include "pixelserve.fullname" .)) .Values.tokens.existingClientSecret -}}
{{- end -}}

{{/* The token for a scope: the one that the cluster has, else a new one. 43 of 62 letters are 256 bits. Takes root and scope. */}}
{{- define "pixelserve.token" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace (include "pixelserve.clientTokensSecret" .root) -}}
{{- $kept := dig "data" .scope "" ($secret | default dict) -}}
{{- if $kept -}}{{ b64dec $kept }}{{- else -}}ps_{{ randAlphaNum 43 }}{{- end -}}
{{- end -}}
