{{/* A value that is text, called with a dict of its `name` and `value`. What --set takes for something else is
     refused here, as the schema could not say what to do. */}}
{{- define "octavo.text" -}}
{{- if kindIs "float64" .value -}}
{{- fail (printf "%s is %v, which Helm takes for a number, without what it was written as (1e5, 1.10): put it in quotes where it stands." .name .value) -}}
{{- else if not (or (kindIs "string" .value) (kindIs "invalid" .value)) -}}
{{- fail (printf "%s is %v, which Helm takes for a %s: write --set-string %s=%v, or quotes in a values file." .name .value (ternary "boolean" "number" (kindIs "bool" .value)) .name .value) -}}
{{- end -}}
{{- .value | default "" -}}
{{- end -}}

{{/* Of a dependency's alias, which may have capitals and underscores, what names of objects may have. */}}
{{- define "octavo.name" -}}
{{- $name := include "octavo.text" (dict "name" "nameOverride" "value" .Values.nameOverride) -}}
{{- default .Chart.Name $name | lower | replace "_" "-" | trimAll "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Release and chart name; a release that already names the chart is not doubled. A Service's name has no dot,
     which a release's may have, and begins with a letter. */}}
{{- define "octavo.fullname" -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $override := include "octavo.text" (dict "name" "fullnameOverride" "value" .Values.fullnameOverride) -}}
{{- if $override -}}
{{- $override | trunc 52 | trimSuffix "-" -}}
{{- else if regexMatch "^[0-9]" $release -}}
{{- fail (printf "the release's name %s begins with a digit, which a Service's name may not: set fullnameOverride." .Release.Name) -}}
{{- else if contains (include "octavo.name" .) $release -}}
{{- printf "%s-operator" $release | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s-operator" $release (include "octavo.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of rights outside the release's namespace, where a release of the same name in another one has its own. Called
     with a dict of `part` and `root`. */}}
{{- define "octavo.sharedName" -}}
{{- printf "%s%s:%s" (include "octavo.fullname" .root) .part .root.Release.Namespace -}}
{{- end -}}

{{- define "octavo.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "octavo.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty although serviceAccount.create is false: name the ServiceAccount that the operator shall use." .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "octavo.selectorLabels" -}}
app.kubernetes.io/name: {{ include "octavo.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* On every object. */}}
{{- define "octavo.labels" -}}
{{- include "octavo.mergedLabels" (dict "labels" dict "root" .) -}}
{{- end -}}

{{- define "octavo.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: octavo
{{- end -}}

{{/* The chart's labels, commonLabels and those of one object, called with a dict of `labels` and `root`. Those
     that select are the chart's to set; of the others the object's win, then commonLabels. */}}
{{- define "octavo.mergedLabels" -}}
{{- $selector := include "octavo.selectorLabels" .root | fromYaml -}}
{{- $common := deepCopy (default dict .root.Values.commonLabels) -}}
{{- $ours := include "octavo.ownLabels" .root | fromYaml -}}
{{- toYaml (merge $selector (deepCopy (default dict .labels)) $common $ours) -}}
{{- end -}}

{{/* Called with a dict of `image`, its `name` and `root`. A digest holds whatever the tag says; a tag that starts
     with sha256: is one. */}}
{{- define "octavo.image" -}}
{{- $given := include "octavo.text" (dict "name" (printf "%s.tag" .name) "value" .image.tag) -}}
{{- $tag := default .root.Chart.AppVersion $given -}}
{{- if and .image.digest (hasPrefix "sha256:" $tag) -}}
{{- fail (printf "the image %s has a digest as its tag and another one as its digest: give one of them." .image.repository) -}}
{{- else if and .image.digest $given -}}
{{- printf "%s:%s@%s" .image.repository .image.tag .image.digest -}}
{{- else if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else if hasPrefix "sha256:" $tag -}}
{{- printf "%s@%s" .image.repository $tag -}}
{{- else -}}
{{- printf "%s:%s" .image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Where the operator finds what Prometheus wants: the folder of a projected volume. */}}
{{- define "octavo.prometheusFolder" -}}/etc/octavo/prometheus{{- end -}}

{{/* The sources of that volume; empty when there is none. */}}
{{- define "octavo.prometheusSources" -}}
{{- $token := .Values.prometheus.bearerToken -}}
{{- $ca := .Values.prometheus.ca -}}
{{- if and $token.secretName $token.serviceAccount -}}
{{- fail "prometheus.bearerToken has a secretName and serviceAccount: give one of them." -}}
{{- end -}}
{{- if and $ca.configMapName $ca.secretName -}}
{{- fail "prometheus.ca has a configMapName and a secretName: give one of them." -}}
{{- end -}}
{{- with $token.secretName }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $token.key | quote }}, path: token}]
{{- end }}
{{- if $token.serviceAccount }}
- serviceAccountToken: {path: token, expirationSeconds: 3600}
{{- end }}
{{- with $ca.configMapName }}
- configMap:
    name: {{ . | quote }}
    items: [{key: {{ $ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- with $ca.secretName }}
- secret:
    name: {{ . | quote }}
    items: [{key: {{ $ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- end -}}

{{/* The port of prometheus.url, for the egress rule. */}}
{{- define "octavo.prometheusPort" -}}
{{- $url := urlParse .Values.prometheus.url -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- if $port -}}{{ $port }}{{- else if eq $url.scheme "https" -}}443{{- else -}}80{{- end -}}
{{- end -}}

{{/* The namespace that prometheus.url names as a Service (service[.namespace[.svc…]]), for the egress rule.
     For a host outside the cluster it is hardly ever a namespace that exists, and so opens nothing; an address
     names none. */}}
{{- define "octavo.prometheusNamespace" -}}
{{- $host := regexReplaceAll ":[0-9]+$" (urlParse .Values.prometheus.url).host "" -}}
{{- $parts := splitList "." $host -}}
{{- if regexMatch "^(\\[.*|[0-9.]+)$" $host -}}
{{- else if eq (len $parts) 1 -}}{{ .Release.Namespace }}{{- else -}}{{ index $parts 1 }}{{- end -}}
{{- end -}}
