{{- define "mdb-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "mdb-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "mdb-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Cluster-wide objects carry the namespace too, so that two releases of one name do not meet. */ -}}
{{- define "mdb-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "mdb-operator.fullname" .) -}}
{{- end -}}

{{- define "mdb-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mdb-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mdb-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mdb-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mdb-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mdb-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mdb-operator.leaseName" -}}
{{- printf "%s-leader" (include "mdb-operator.fullname" .) -}}
{{- end -}}

{{- define "mdb-operator.masterKeySecret" -}}
{{- default (printf "%s-master-key" (include "mdb-operator.fullname" .)) .Values.masterKey.existingSecret -}}
{{- end -}}

{{- /* What wraps data keys, first, and what only opens what it wrapped; `secret` is the keyring. */ -}}
{{- define "mdb-operator.keyManagers" -}}
{{- /* `helm upgrade --reuse-values` from a chart that had none of these leaves them away. */ -}}
{{- $all := prepend (default list .Values.masterKey.former) (default "secret" .Values.masterKey.uri) -}}
{{- if ne (len $all) (len (uniq $all)) -}}
{{- fail "masterKey.former names what masterKey.uri names already; with masterKey.uri empty, `secret` is what wraps" -}}
{{- end -}}
{{- range $all -}}
{{- if and (hasPrefix "file:" .) (not $.Values.masterKey.volume) -}}
{{- fail (printf "%s is a directory that nothing is mounted at: say in masterKey.volume what is" .) -}}
{{- end -}}
{{- end -}}
{{- join "," $all -}}
{{- end -}}

{{- define "mdb-operator.trialName" -}}
{{- printf "%s-trial-mongodb" (include "mdb-operator.fullname" .) -}}
{{- end -}}

{{- define "mdb-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mdb-operator.mongodbSecret" -}}
{{- $ways := compact (list .Values.mongodb.existingSecret.name .Values.mongodb.uri (ternary "trial" "" .Values.mongodb.trial.enabled)) -}}
{{- if gt (len $ways) 1 -}}
{{- fail "set one of mongodb.existingSecret.name, mongodb.uri and mongodb.trial.enabled" -}}
{{- end -}}
{{- if .Values.mongodb.trial.enabled -}}
{{- include "mdb-operator.trialName" . -}}
{{- else if .Values.mongodb.existingSecret.name -}}
{{- .Values.mongodb.existingSecret.name -}}
{{- else if .Values.mongodb.uri -}}
{{- printf "%s-mongodb" (include "mdb-operator.fullname" .) -}}
{{- else -}}
{{- fail "say where MongoDB is: mongodb.existingSecret.name (a Secret with the connection string of the operator's user), or mongodb.uri; mongodb.trial.enabled brings one along for trying out" -}}
{{- end -}}
{{- end -}}

{{- /* Where the pods of hooks and tests may run: where the operator may. Its affinity to other pods is
left out, because they come when it goes. */ -}}
{{- define "mdb-operator.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity.nodeAffinity }}
affinity:
  nodeAffinity: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- /* What the operator may do in the namespaces that it watches. */ -}}
{{- define "mdb-operator.rules" -}}
- apiGroups: [mdb-engine.dev]
  resources: [mdbapps]
  verbs: [get, list, watch, patch]
- apiGroups: [mdb-engine.dev]
  resources: [mdbapps/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  {{- if .Values.secretWatch.enabled }}
  verbs: [get, create, update, delete, list, watch]
  {{- else }}
  verbs: [get, create, update, delete]
  {{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.workloadRestart.enabled }}
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get, patch]
{{- end }}
{{- end -}}
