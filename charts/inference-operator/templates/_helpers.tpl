{{- define "inference-operator.labels" -}}
app.kubernetes.io/name: inference-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "inference-operator.selector" -}}
app.kubernetes.io/name: inference-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of the controller's pods alone: an InferenceDeployment may have the name of the release. The Deployment keeps the shorter
selector, which cannot be changed once it is made; its ReplicaSets tell pods apart by their hash. */}}
{{- define "inference-operator.podSelector" -}}
{{ include "inference-operator.selector" . }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "inference-operator.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}-controller
{{- end }}

{{- /* Of what is in no namespace: releases that watch a namespace each may have the same name. No namespace has a dot. */}}
{{- define "inference-operator.clusterName" -}}
{{ with .Values.watchNamespace }}{{ $.Release.Namespace }}.{{ end }}{{ include "inference-operator.name" . }}
{{- end }}
