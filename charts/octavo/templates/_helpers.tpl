{{- define "octavo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Release and chart name; a release that already names the chart is not doubled. */}}
{{- define "octavo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "octavo.name" .) .Release.Name -}}
{{- printf "%s-operator" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s-operator" .Release.Name (include "octavo.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "octavo.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "octavo.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty although serviceAccount.create is false: name the ServiceAccount that the operator shall use." .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "octavo.selectorLabels" -}}
app.kubernetes.io/name: {{ include "octavo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "octavo.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "octavo.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: octavo
{{- end -}}

{{/* The chart's labels and the user's, called with a dict of `labels` and `root`. Those that select are
     the chart's to set; of the others the user's win. */}}
{{- define "octavo.mergedLabels" -}}
{{- $selector := include "octavo.selectorLabels" .root | fromYaml -}}
{{- $ours := include "octavo.labels" .root | fromYaml -}}
{{- toYaml (merge $selector (deepCopy (default dict .labels)) $ours) -}}
{{- end -}}

{{/* Called with a dict of `image` and `root`: a tag that starts with sha256: is a digest. */}}
{{- define "octavo.image" -}}
{{- $tag := default .root.Chart.AppVersion .image.tag -}}
{{- if hasPrefix "sha256:" $tag -}}
{{- printf "%s@%s" .image.repository $tag -}}
{{- else -}}
{{- printf "%s:%s" .image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* The port of prometheus.url, for the egress rule. */}}
{{- define "octavo.prometheusPort" -}}
{{- $url := urlParse .Values.prometheus.url -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- if $port -}}{{ $port }}{{- else if eq $url.scheme "https" -}}443{{- else -}}80{{- end -}}
{{- end -}}

{{/* The namespace that prometheus.url names as a Service (service[.namespace[.svc…]]), for the egress rule.
     For a host outside the cluster it is hardly ever a namespace that exists, and so opens nothing. */}}
{{- define "octavo.prometheusNamespace" -}}
{{- $host := regexReplaceAll ":[0-9]+$" (urlParse .Values.prometheus.url).host "" -}}
{{- $parts := splitList "." $host -}}
{{- if eq (len $parts) 1 -}}{{ .Release.Namespace }}{{- else -}}{{ index $parts 1 }}{{- end -}}
{{- end -}}
