{{/* Values that contradict each other: what is wrong, and what to write instead. The schema refuses what is wrong by itself. */}}

{{- define "pixelserve.refuse" -}}
{{- include "pixelserve.refuseDrain" . -}}
{{- include "pixelserve.refuseModels" . -}}
{{- include "pixelserve.refuseScaling" . -}}
{{- include "pixelserve.refuseAccess" . -}}
{{- include "pixelserve.refuseRouting" . -}}
{{- include "pixelserve.refuseTraining" . -}}
{{- end -}}

{{- define "pixelserve.refuseDrain" -}}
{{- $least := include "pixelserve.leastTerminationGrace" . -}}
{{- $given := include "pixelserve.terminationGrace" . -}}
{{- if lt (int64 $given) (int64 $least) -}}
{{- fail (printf "server.terminationGracePeriodSeconds is %s, but settleSeconds + graceSeconds + 2 is %s: the kubelet would kill accepted requests; set %s or more, or leave it empty" $given $least $least) -}}
{{- end -}}
{{- end -}}

{{- define "pixelserve.refuseModels" -}}
{{- $models := .Values.models -}}
{{- if eq $models.source "image" -}}
{{- if not $models.image.repository -}}
{{- fail "models.source is image, but models.image.repository is empty; name what `pixelserve models image` wrote" -}}
{{- end -}}
{{- if not (or $models.image.tag $models.image.digest) -}}
{{- fail "models.image has no digest and no tag; set models.image.digest, or a tag" -}}
{{- end -}}
{{- if semverCompare "<1.31.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "models.source image needs Kubernetes 1.31 (this is %s); use models.source pull" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- else if and (eq $models.source "pull") (not $models.pull.urls) -}}
{{- fail "models.source is pull, but models.pull.urls is empty; list the models' URLs" -}}
{{- else if and (eq $models.source "pvc") (not $models.pvc.claimName) -}}
{{- fail "models.source is pvc, but models.pvc.claimName is empty; name the claim" -}}
{{- end -}}
{{- end -}}

{{- define "pixelserve.refuseScaling" -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling and keda are both enabled, and would scale the same Deployment; enable one" -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $scaler := index $.Values $name -}}
{{- if gt (int64 $scaler.minReplicas) (int64 $scaler.maxReplicas) -}}
{{- fail (printf "%s.minReplicas is %d, more than maxReplicas, %d; lower it" $name (int64 $scaler.minReplicas) (int64 $scaler.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.keda.enabled (eq (int64 .Values.keda.minReplicas) 0) (not .Values.keda.activationQuery) (not .Values.envoy.enabled) -}}
{{- fail "keda.minReplicas is 0, and nothing can start the first pod, since a pod that does not exist has no metrics; enable envoy, or set keda.activationQuery" -}}
{{- end -}}
{{- $several := or .Values.autoscaling.enabled .Values.keda.enabled (gt (int64 .Values.replicas) 1) -}}
{{- if and $several (eq (include "pixelserve.controlMode" .) "explicit") -}}
{{- fail "server.settings.model_control_mode is explicit with more than one pod: a load reaches one of them, and the others differ from then on; use models.source image, or replicas 1" -}}
{{- end -}}
{{- end -}}

{{- define "pixelserve.refuseAccess" -}}
{{- if and .Values.tls.clientCaSecret (not .Values.tls.existingSecret) -}}
{{- fail "tls.clientCaSecret needs tls.existingSecret, since only TLS asks for certificates" -}}
{{- end -}}
{{- if ne (empty .Values.tokens.existingSecret) (empty .Values.tokens.existingClientSecret) -}}
{{- fail "tokens.existingSecret and tokens.existingClientSecret belong together: one has the digests for the server, the other the tokens for Prometheus and helm tests; set both or neither" -}}
{{- end -}}
{{- end -}}

{{- define "pixelserve.refuseRouting" -}}
{{- if and .Values.canary.enabled (not .Values.route.enabled) (not .Values.envoy.enabled) -}}
{{- fail "canary.enabled needs route.enabled or envoy.enabled, which give it its share of the calls" -}}
{{- end -}}
{{- if and .Values.route.enabled (not .Values.route.parentRefs) -}}
{{- fail "route.enabled needs route.parentRefs; name the Gateway" -}}
{{- end -}}
{{- if and .Values.route.enabled (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1")) -}}
{{- fail "route.enabled needs the Gateway API (gateway.networking.k8s.io/v1), which this cluster lacks; install its CRDs, or render with --api-versions gateway.networking.k8s.io/v1" -}}
{{- end -}}
{{- if and .Values.keda.enabled (not (.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) -}}
{{- fail "keda.enabled needs KEDA (keda.sh/v1alpha1), which this cluster lacks; install it, or render with --api-versions keda.sh/v1alpha1" -}}
{{- end -}}
{{- if and .Values.envoy.enabled .Values.tls.clientCaSecret -}}
{{- fail "envoy.enabled and tls.clientCaSecret exclude each other: clients' certificates end at Envoy, and servers would refuse it; leave out one" -}}
{{- end -}}
{{- end -}}
