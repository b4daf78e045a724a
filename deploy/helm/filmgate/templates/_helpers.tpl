{{/* Names are fixed, not the release's: a cluster has one filmgate. */}}

{{- define "filmgate.labels" -}}
app.kubernetes.io/part-of: filmgate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "filmgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Never newer than the API server; what a vendor adds to the version is not part of an image's tag. */}}
{{- define "filmgate.kubeSchedulerTag" -}}
{{ .Values.kubeScheduler.image.tag | default (printf "v%s" (regexFind "[0-9]+\\.[0-9]+\\.[0-9]+" .Capabilities.KubeVersion.Version)) }}
{{- end }}

{{- define "filmgate.serviceAccountUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:filmgate
{{- end }}

{{/* No container needs more than this; the agent alone is root. */}}
{{- define "filmgate.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The extender's configuration: yours, and what the chart sees to. */}}
{{- define "filmgate.config" -}}
{{- if and (eq .Values.mode "sidecar") (eq .Values.schedulerName "default-scheduler") }}
{{- fail "schedulerName: default-scheduler is the cluster's own scheduler; write another name, or mode=service to have the cluster's scheduler ask filmgate" }}
{{- end }}
{{- $namespace := .Release.Namespace }}
{{- $service := eq .Values.mode "service" }}
{{- $lease := ternary "filmgate-extender" "filmgate-kube-scheduler" $service }}
{{- $config := deepCopy .Values.config }}
{{- $_ := set $config "schedulerName" .Values.schedulerName }}
{{- $_ := set $config "leaderElection" (dict "mode" (ternary "own" "sibling" $service) "namespace" $namespace "name" $lease) }}
{{- $tls := dict "caFile" "/etc/filmgate/agent-ca/ca.crt" "serverName" (printf "filmgate-agent.%s.svc" $namespace) "tokenFile" "/var/run/secrets/filmgate/agent-token" }}
{{- $_ := set $config "agents" (dict "endpointSlices" (dict "namespace" $namespace) "tls" $tls) }}
{{- if not $service }}
{{- with regexFind "^v?[0-9]+\\.[0-9]+.*$" (include "filmgate.kubeSchedulerTag" .) }}
{{- $_ := set $config "kubeSchedulerVersion" . }}
{{- end }}
{{- end }}
{{- if .Values.externalMetrics.enabled }}
{{- $_ := set $config "externalMetrics" (fromYaml (include "filmgate.listener" (list "external-metrics" 9114 false))) }}
{{- end }}
{{- if .Values.keda.enabled }}
{{- $_ := set $config "keda" (fromYaml (include "filmgate.listener" (list "keda" 9115 true))) }}
{{- end }}
{{- if $service }}
{{- $_ := set $config "service" (fromYaml (include "filmgate.listener" (list "service" 9116 true))) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* A listener over TLS: its folder of certificates, its port, whether callers show certificates. */}}
{{- define "filmgate.listener" -}}
listen: 0.0.0.0:{{ index . 1 }}
certificateFile: /etc/filmgate/{{ index . 0 }}/tls.crt
keyFile: /etc/filmgate/{{ index . 0 }}/tls.key
{{- if index . 2 }}
clientCaFile: /etc/filmgate/{{ index . 0 }}/ca.crt
{{- end }}
{{- end }}

{{/* config/kube-scheduler.yaml with the names and figures of these values. */}}
{{- define "filmgate.kubeScheduler" -}}
{{- $config := .Files.Get "files/kube-scheduler.yaml" | fromYaml }}
{{- $_ := set $config.leaderElection "resourceNamespace" .Release.Namespace }}
{{- $_ := set (first $config.profiles) "schedulerName" .Values.schedulerName }}
{{- $extender := first $config.extenders }}
{{- $_ := set $extender "weight" .Values.kubeScheduler.weight }}
{{- range .Values.kubeScheduler.migResources }}
{{- $_ := set $extender "managedResources" (append $extender.managedResources (dict "name" . "ignoredByScheduler" false)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* CEL: whether a container asks for a GPU. */}}
{{- define "filmgate.asksForGpu" -}}
container.?resources.?limits.orValue({}).exists(resource,
resource.matches('^nvidia[.]com/(gpu|gpu[.]shared|mig-.*)$')
&& container.resources.limits[resource] != '0')
{{- end }}
