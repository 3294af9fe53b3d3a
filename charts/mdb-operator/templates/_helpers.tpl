{{- /* The defaults of values that are missing: `helm upgrade --reuse-values` brings only those that the
release before had. Every template begins with it. Inside of mappings that are the user's to take keys
out of (`null`), nothing is put back. */ -}}
{{- define "mdb-operator.init" -}}
{{- include "mdb-operator.fill" (list .Values (.Files.Get "files/defaults.yaml" | fromYaml)) -}}
{{- if and .Values.watchNamespaces .Values.excludeNamespaces -}}
{{- fail "set watchNamespaces or excludeNamespaces, not both" -}}
{{- end -}}
{{- end -}}

{{- define "mdb-operator.fill" -}}
{{- $values := index . 0 -}}
{{- $open := list "resources" "podSecurityContext" "securityContext" "labels" -}}
{{- range $key, $default := index . 1 -}}
{{- if not (hasKey $values $key) -}}
{{- $_ := set $values $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" (get $values $key)) (not (has $key $open)) -}}
{{- include "mdb-operator.fill" (list (get $values $key) $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether the chart is rendered without a look into the cluster (helm template, Argo CD). A list
that was looked up has a kind even when it is empty. */ -}}
{{- define "mdb-operator.blind" -}}
{{- if not (lookup "v1" "Secret" (include "mdb-operator.namespace" .) "").kind -}}true{{- end -}}
{{- end -}}

{{- define "mdb-operator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

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
{{- printf "%s:%s" (include "mdb-operator.namespace" .) (include "mdb-operator.fullname" .) -}}
{{- end -}}

{{- define "mdb-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mdb-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mdb-operator.commonLabels" -}}
{{- with mergeOverwrite (deepCopy .Values.global.commonLabels) .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mdb-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mdb-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- include "mdb-operator.commonLabels" . }}
{{- end -}}

{{- /* Labels and annotations that pods have on top of those that tell them from each other. */ -}}
{{- define "mdb-operator.podLabels" -}}
{{- with mergeOverwrite (deepCopy .Values.global.commonLabels) .Values.commonLabels .Values.global.podLabels .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mdb-operator.podAnnotations" -}}
{{- with mergeOverwrite (deepCopy .Values.global.podAnnotations) .Values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
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

{{- define "mdb-operator.registry" -}}
{{- with .Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- end -}}

{{- define "mdb-operator.image" -}}
{{- $registry := include "mdb-operator.registry" . -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s%s@%s" $registry .repository .digest -}}
{{- else -}}
{{- printf "%s%s:%s" $registry .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A security context, on OpenShift without the UIDs that each namespace has its own of. */ -}}
{{- define "mdb-operator.securityContext" -}}
{{- $root := index . 0 }}{{ $context := index . 1 -}}
{{- $adapt := $root.Values.global.compatibility.openshift.adaptSecurityContext -}}
{{- $known := $root.Capabilities.APIVersions -}}
{{- $openshift := or ($known.Has "security.openshift.io/v1") ($known.Has "security.openshift.io/v1/SecurityContextConstraints") -}}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") $openshift) -}}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- /* Whether to render an object of the Prometheus operator: its kind, and the value about it. */ -}}
{{- define "mdb-operator.monitoring" -}}
{{- $root := index . 0 }}{{ $kind := index . 1 }}{{ $value := index . 2 -}}
{{- if $value.enabled -}}
{{- if or (eq $value.renderMode "alwaysRender") ($root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind)) -}}
true
{{- else if eq $value.renderMode "failIfMissing" -}}
{{- fail (printf "metrics: there is no %s in this cluster: install the CRDs of the Prometheus operator first, or set renderMode to skipIfMissing" $kind) -}}
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

{{- define "mdb-operator.imagePullSecrets" -}}
{{- $all := list -}}
{{- range concat .Values.imagePullSecrets .Values.global.imagePullSecrets -}}
{{- $all = append $all (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with uniq $all }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What every pod of the chart has in common: by which names it reaches others, and where it may
run. The affinity to other pods is the operator's alone, because others come when it goes. */ -}}
{{- define "mdb-operator.pod" -}}
{{- include "mdb-operator.imagePullSecrets" . }}
{{- range $key := list "priorityClassName" "schedulerName" "runtimeClassName" "dnsPolicy" }}
{{- with get $.Values $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector | default .Values.global.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations | default .Values.global.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "mdb-operator.hostAliases" -}}
{{- with .Values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The same of pods that come and go: hooks, tests and the trial MongoDB. */ -}}
{{- define "mdb-operator.placement" -}}
{{- include "mdb-operator.pod" . }}
{{- with (.Values.affinity | default .Values.global.affinity).nodeAffinity }}
affinity:
  nodeAffinity: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "mdb-operator.probe" -}}
{{- $root := index . 0 }}{{ $path := index . 1 }}{{ $probe := index . 2 -}}
httpGet:
  path: {{ $path }}
  port: http
  {{- if $root.Values.metrics.tls.existingSecret }}
  scheme: HTTPS
  {{- end }}
{{- with omit $probe "enabled" }}
{{ toYaml . }}
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

{{- define "mdb-operator.crdAnnotations" -}}
{{- with .Values.crds.annotations }}{{ toYaml . }}
{{ end -}}
# Deleting it would delete all MdbApps.
helm.sh/resource-policy: keep
mdb-engine.dev/crd-version: {{ .Chart.Version | quote }}
mdb-engine.dev/crd-hash: {{ include "mdb-operator.crdHash" . | quote }}
{{- end -}}

{{- /* What is to be done about the CRD: "plain" where nobody looks into the cluster, "missing", "older"
than the chart's, or nothing. */ -}}
{{- define "mdb-operator.crdState" -}}
{{- if .Values.crds.install -}}
{{- if include "mdb-operator.blind" . -}}
plain
{{- else -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (include "mdb-operator.crdName" .) -}}
{{- $said := default dict ($there.metadata).annotations -}}
{{- if not $there -}}
missing
{{- else if and (ne (get $said "mdb-engine.dev/crd-hash") (include "mdb-operator.crdHash" .)) (semverCompare (printf ">=%s-0" (get $said "mdb-engine.dev/crd-version" | default "0.0.0")) .Chart.Version) -}}
older
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mdb-operator.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
