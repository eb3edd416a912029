{{/* Where the models come from. Every template here takes root and track, but for the first. */}}

{{- define "pixelserve.modelRepository" -}}
{{- $models := .Values.models -}}
{{- if eq $models.source "baked" -}}{{ $models.bakedPath }}
{{- else if eq $models.source "image" -}}/mnt/models-image/{{ $models.image.path }}
{{- else -}}/mnt/models
{{- end -}}
{{- end -}}

{{- define "pixelserve.modelVolume" -}}
{{- $models := .root.Values.models -}}
{{- if eq $models.source "image" }}
- name: models
  image:
    reference: {{ include "pixelserve.modelImage" . }}
    pullPolicy: {{ $models.image.pullPolicy }}
{{- else if eq $models.source "pull" }}
- name: models
  emptyDir: {sizeLimit: {{ mul $models.pull.maxMib (len $models.pull.urls) }}Mi}
{{- with .root.Values.imagePullSecrets }}
- name: registry
  secret:
    secretName: {{ (index . 0).name }}
    defaultMode: 0440
    items: [{key: .dockerconfigjson, path: config.json}]
{{- end }}
{{- else if eq $models.source "pvc" }}
- name: models
  persistentVolumeClaim: {claimName: {{ $models.pvc.claimName }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* An image volume is mounted whole: containerd 2.1 ignores subPath there. */}}
{{- define "pixelserve.modelMount" -}}
{{- $models := .root.Values.models -}}
{{- if eq $models.source "image" }}
- {name: models, mountPath: /mnt/models-image, readOnly: true}
{{- else if eq $models.source "pull" }}
- {name: models, mountPath: /mnt/models, readOnly: true}
{{- else if eq $models.source "pvc" }}
- {name: models, mountPath: /mnt/models, readOnly: true{{ with $models.pvc.subPath }}, subPath: {{ . }}{{ end }}}
{{- end }}
{{- end -}}

{{- define "pixelserve.modelImage" -}}
{{- $image := deepCopy .root.Values.models.image -}}
{{- if eq .track "canary" -}}
{{- if and .root.Values.canary.modelImage.tag (not .root.Values.canary.modelImage.digest) -}}{{- $_ := unset $image "digest" -}}{{- end -}}
{{- $image = mergeOverwrite $image (deepCopy .root.Values.canary.modelImage) -}}
{{- end -}}
{{- include "pixelserve.imageReference" $image -}}
{{- end -}}

{{/* One container for each URL: they run in turn, and a pod whose pull fails says which one. */}}
{{- define "pixelserve.pullContainers" -}}
{{- $pull := .root.Values.models.pull -}}
{{- range $index, $url := $pull.urls }}
- name: pull-{{ $index }}
  image: {{ default (include "pixelserve.serverImage" $) $pull.image }}
  imagePullPolicy: {{ $.root.Values.image.pullPolicy }}
  args: [models, pull, {{ $url | quote }}, --model-repository, /mnt/models, --max-mib, {{ $pull.maxMib | int64 | quote }}
    {{- if $pull.requireCard }}, --require-card{{ end }}]
  env:
    - {name: LANG, value: C.UTF-8}
    {{- if $.root.Values.imagePullSecrets }}
    - {name: DOCKER_CONFIG, value: /etc/pixelserve/registry}
    {{- end }}
  {{- with $pull.existingSecret }}
  envFrom: [{secretRef: {name: {{ . }}}}]
  {{- end }}
  resources: {{- toYaml $.root.Values.resources | nindent 4 }}
  securityContext: {{- include "pixelserve.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /mnt/models}
    {{- if $.root.Values.imagePullSecrets }}
    - {name: registry, mountPath: /etc/pixelserve/registry, readOnly: true}
    {{- end }}
{{- end }}
{{- end -}}
