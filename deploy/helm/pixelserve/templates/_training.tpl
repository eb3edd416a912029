{{/* A Job that trains a model, and publishes it into the servers' claim only if it is better than the version that serves. */}}

{{- define "pixelserve.refuseTraining" -}}
{{- if .Values.training.enabled -}}
{{- if ne .Values.models.source "pvc" -}}
{{- fail (printf "training.enabled needs models.source pvc, the claim that it publishes into; models.source is %s" .Values.models.source) -}}
{{- end -}}
{{- if ne (include "pixelserve.controlMode" .) "poll" -}}
{{- fail (printf "training.enabled needs server.settings.model_control_mode poll; with %s the servers never see the version that it publishes" (include "pixelserve.controlMode" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
A pod that fails is replaced backoffLimit times. Two failures differ: exit codes 2 and 3 (wrong options, data that do not
fit, a missing library) come again in each pod, so the Job ends; an eviction is not the Job's fault and does not count.
*/}}
{{- define "pixelserve.trainingJob" -}}
{{- $training := .Values.training -}}
backoffLimit: {{ $training.backoffLimit }}
activeDeadlineSeconds: {{ $training.activeDeadlineSeconds | int64 }}
ttlSecondsAfterFinished: {{ $training.ttlSecondsAfterFinished | int64 }}
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes: {operator: In, values: [2, 3]}
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
template:
  metadata:
    labels:
      {{- include "pixelserve.selector" . | nindent 6 }}
      app.kubernetes.io/component: training
      app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
      {{- with .Values.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    annotations:
      kubectl.kubernetes.io/default-container: publish
      {{- with .Values.podAnnotations }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec: {{- include "pixelserve.trainingPod" . | nindent 4 }}
{{- end -}}

{{/* Two containers, because the image has no shell; the log of the second one is the decision. */}}
{{- define "pixelserve.trainingPod" -}}
{{- $training := .Values.training -}}
restartPolicy: Never
serviceAccountName: {{ include "pixelserve.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
# SIGTERM ends the training in seconds, and the last whole epoch is on disk.
terminationGracePeriodSeconds: 60
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "pixelserve.podSecurity" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
initContainers:
  - name: train
    args:
      - train
      - {{ $training.recipe }}
      - --run-dir=/work/$(JOB_NAME)
      - --resume
      {{- range $training.trainOptions }}
      - {{ . | toString | quote }}
      {{- end }}
    {{- include "pixelserve.trainingContainer" . | nindent 4 }}
      - {name: work, mountPath: /work}
containers:
  - name: publish
    args:
      - export
      - /work/$(JOB_NAME)
      - --to=/models
      - --if-better
      {{- range $training.exportOptions }}
      - {{ . | toString | quote }}
      {{- end }}
    {{- include "pixelserve.trainingContainer" . | nindent 4 }}
      - {name: work, mountPath: /work, readOnly: true}
      - {name: models, mountPath: /models{{ with .Values.models.pvc.subPath }}, subPath: {{ . }}{{ end }}}
volumes: {{- include "pixelserve.trainingVolumes" . | nindent 2 }}
{{- end -}}

{{/* What both containers share. It ends in their volume mounts, which the caller completes. */}}
{{- define "pixelserve.trainingContainer" -}}
{{- $training := .Values.training -}}
image: {{ include "pixelserve.trainingImage" . }}
imagePullPolicy: {{ $training.image.pullPolicy }}
env:
  - {name: LANG, value: C.UTF-8}
  - name: JOB_NAME
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}
  # The root is read-only and the user has no home.
  - {name: KERAS_HOME, value: /tmp/keras}
  - {name: MPLCONFIGDIR, value: /tmp/matplotlib}
  {{- if $training.data.claimName }}
  - {name: PIXELSERVE_DATA_DIR, value: /data}
  {{- end }}
resources: {{- toYaml $training.resources | nindent 2 }}
securityContext: {{- include "pixelserve.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if $training.data.claimName }}
  - {name: data, mountPath: /data, readOnly: true{{ with $training.data.subPath }}, subPath: {{ . }}{{ end }}}
  {{- end }}
{{- end -}}

{{- define "pixelserve.trainingVolumes" -}}
{{- $training := .Values.training -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: work
  {{- if $training.work.claimName }}
  persistentVolumeClaim: {claimName: {{ $training.work.claimName }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ $training.work.sizeLimit }}}
  {{- end }}
- name: models
  persistentVolumeClaim: {claimName: {{ .Values.models.pvc.claimName }}}
{{- with $training.data.claimName }}
- name: data
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "pixelserve.trainingImage" -}}
{{- $image := .Values.training.image -}}
{{- include "pixelserve.imageReference" (dict "repository" $image.repository "tag" (default .Chart.AppVersion $image.tag) "digest" $image.digest) -}}
{{- end -}}
