{{/* Names, labels and images. */}}

{{- define "pixelserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 46 characters: the longest suffix, -client-tokens, and a pod's own must fit into 63. */}}
{{- define "pixelserve.fullname" -}}
{{- $name := include "pixelserve.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{- define "pixelserve.labels" -}}
{{ include "pixelserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "pixelserve.selector" -}}
app.kubernetes.io/name: {{ include "pixelserve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Selects the servers of both tracks. */}}
{{- define "pixelserve.serverSelector" -}}
{{ include "pixelserve.selector" . }}
app.kubernetes.io/component: server
{{- end -}}

{{/* The metadata of an object. Takes root, suffix and component. */}}
{{- define "pixelserve.metadata" -}}
name: {{ include "pixelserve.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "pixelserve.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "pixelserve.serviceAccount" -}}
{{- default (include "pixelserve.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* An image's reference. Takes repository, tag and digest. */}}
{{- define "pixelserve.imageReference" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}

{{/* The server's image on a track. Takes root and track. */}}
{{- define "pixelserve.serverImage" -}}
{{- $image := deepCopy .root.Values.image -}}
{{- if .root.Values.gpu.enabled -}}{{- $_ := set $image "repository" .root.Values.gpu.repository -}}{{- end -}}
{{- if eq .track "canary" -}}
{{- if and .root.Values.canary.image.tag (not .root.Values.canary.image.digest) -}}{{- $_ := unset $image "digest" -}}{{- end -}}
{{- $image = mergeOverwrite $image (deepCopy .root.Values.canary.image) -}}
{{- end -}}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
{{- include "pixelserve.imageReference" (dict "repository" $image.repository "tag" $tag "digest" $image.digest) -}}
{{- end -}}

{{/* The annotation by which checkov accepts an image without a digest. No digest can be a default: it is known after a build. */}}
{{- define "pixelserve.digestNote" -}}
checkov.io/skip1: CKV_K8S_43=the chart's user names the digest, which is known only after the image was built
{{- end -}}
