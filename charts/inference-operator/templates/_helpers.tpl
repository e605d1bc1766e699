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

{{- define "inference-operator.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}-controller
{{- end }}
