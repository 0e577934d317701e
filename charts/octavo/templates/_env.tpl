{{/* The variables of the operator's container: its settings, then extraEnv. Of two that have one name Kubernetes
     would refuse some and take the last of others, so none may come twice. */}}
{{- define "octavo.env" -}}
{{- $own := include "octavo.settings" . -}}
{{- $own -}}
{{- $taken := dict -}}
{{- range $own | fromYamlArray }}{{ $_ := set $taken .name true }}{{ end -}}
{{- range .Values.extraEnv }}
{{- if hasKey $taken .name }}
{{- fail (printf "extraEnv: %s is set by the chart, or given twice." .name) }}
{{- end }}
{{- $_ := set $taken .name true }}
{{ toYaml (list .) }}
{{- end -}}
{{- end -}}

{{/* The operator's settings (operator/octavo_operator/settings.py). */}}
{{- define "octavo.settings" -}}
- name: OCTAVO_OPERATOR_RUNTIME_IMAGE
  value: {{ include "octavo.image" (dict "name" "runtime.image" "image" .Values.runtime.image "root" .) | quote }}
- name: OCTAVO_OPERATOR_RUNTIME_USER
  value: {{ ternary "" (int64 .Values.runtime.user | toString) (kindIs "string" .Values.runtime.user) | quote }}
- name: OCTAVO_OPERATOR_ALLOWED_RUNTIME_IMAGES
  value: {{ join "," .Values.runtime.allowedImages | quote }}
- name: OCTAVO_OPERATOR_IMAGE_PULL_POLICY
  value: {{ .Values.runtime.image.pullPolicy | quote }}
- name: OCTAVO_OPERATOR_PROMETHEUS_URL
  value: {{ .Values.prometheus.url | default "" | quote }}
{{- if or .Values.prometheus.bearerToken.secretName .Values.prometheus.bearerToken.serviceAccount }}
- name: OCTAVO_OPERATOR_PROMETHEUS_BEARER_TOKEN_FILE
  value: {{ include "octavo.prometheusFolder" . }}/token
{{- end }}
{{- if or .Values.prometheus.ca.configMapName .Values.prometheus.ca.secretName }}
- name: OCTAVO_OPERATOR_PROMETHEUS_CA_FILE
  value: {{ include "octavo.prometheusFolder" . }}/ca.crt
{{- end }}
{{- with .Values.prometheus.tenant }}
- name: OCTAVO_OPERATOR_PROMETHEUS_TENANT
  value: {{ . | quote }}
{{- end }}
- name: OCTAVO_OPERATOR_WATCH_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: OCTAVO_OPERATOR_MAX_CONCURRENT_ROLLOUTS
  value: {{ .Values.maxConcurrentRollouts | quote }}
- name: OCTAVO_OPERATOR_HEALTH_PORT
  value: "8080"
- name: OCTAVO_OPERATOR_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: OCTAVO_OPERATOR_IMAGE_PULL_SECRETS
  value: {{ join "," .Values.runtime.imagePullSecrets | quote }}
- name: OCTAVO_OPERATOR_MONITORING_NAMESPACES
  value: {{ join "," .Values.monitoringNamespaces | quote }}
- name: OCTAVO_OPERATOR_DOWNLOAD_PORTS
  value: {{ join "," .Values.runtime.downloadPorts | quote }}
- name: OCTAVO_OPERATOR_LEASE_NAME
  value: {{ include "octavo.fullname" . | quote }}
- name: OCTAVO_OPERATOR_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OCTAVO_OPERATOR_POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: OCTAVO_OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end -}}
