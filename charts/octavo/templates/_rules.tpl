{{/*
What the operator may do in the namespaces it serves: the table of operator/octavo_operator/rbac.py, which
docs/reference/operator-rbac.md explains line by line; a test keeps the two equal. There is no verb on
Secrets: a pod names its Secret, and the kubelet reads it.
*/}}
{{- define "octavo.namespacedRules" -}}
- apiGroups: [octavo.dev]
  resources: [llmdeployments]
  verbs: [get, list, watch]
- apiGroups: [octavo.dev]
  resources: [llmdeployments/status]
  verbs: [patch]
- apiGroups: [octavo.dev]
  resources: [llmdeployments/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, update]
{{- end -}}
