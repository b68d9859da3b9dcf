{{- define "kubedr.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}{{ else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "kubedr.controller" -}}
{{ include "kubedr.fullname" . }}-controller
{{- end }}

{{- define "kubedr.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "kubedr.controller" .) }}
{{- end }}

{{- define "kubedr.selector" -}}
app.kubernetes.io/name: kubedr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "kubedr.labels" -}}
{{ include "kubedr.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /*
The metadata of everything: (dict "root" $), and a "name", "namespace", "component", "labels" or "annotations" of its own
if it has some. What is cluster-scoped has a name, "cluster", to which the release's namespace is added, as releases in
several namespaces meet there.
*/}}
{{- define "kubedr.metadata" -}}
{{- $ := .root -}}
metadata:
  {{- if .cluster }}
  name: {{ .cluster }}-{{ $.Release.Namespace }}
  {{- else }}
  name: {{ .name | default (include "kubedr.controller" $) }}
  namespace: {{ .namespace | default $.Release.Namespace }}
  {{- end }}
  labels:
    {{- $own := ternary (dict "app.kubernetes.io/component" .component) (dict) (hasKey . "component") }}
    {{- merge (dict) (.labels | default dict) $own (include "kubedr.labels" $ | fromYaml) | toYaml | nindent 4 }}
  {{- with merge (dict) (.annotations | default dict) $.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* What the controller gives the pods of all Jobs, as YAML, but for what is empty. */}}
{{- define "kubedr.jobs" -}}
{{- $labels := merge (dict) .Values.jobs.podLabels .Values.commonLabels }}
{{- $annotations := merge (dict) .Values.jobs.podAnnotations .Values.commonAnnotations }}
{{- $all := merge (dict "labels" $labels "annotations" $annotations) (omit .Values.jobs "podLabels" "podAnnotations") }}
{{- range $name, $value := $all }}
{{- if $value }}
{{ dict $name $value | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{- define "kubedr.caConfigMap" -}}
{{ .Values.ca.configMap | default (printf "%s-ca" (include "kubedr.fullname" .)) }}
{{- end }}

{{- /* What a pod of a hook that runs kubedrctl needs: (dict "root" $ "args" (list …)). */}}
{{- define "kubedr.kubedrctl" -}}
{{- $ := .root -}}
restartPolicy: Never
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $.Values.controller.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $.Values.controller.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "kubedr.podSecurity" $ | nindent 2 }}
containers:
  - name: kubedrctl
    image: {{ include "kubedr.image" $ }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    command: [kubedrctl]
    args:
      {{- toYaml .args | nindent 6 }}
    resources:
      requests:
        cpu: 20m
        memory: 96Mi
      limits:
        memory: 256Mi
    securityContext:
      {{- include "kubedr.containerSecurity" $ | nindent 6 }}
{{- end }}

{{- define "kubedr.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kubedr.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The ServiceAccount that kubedrctl runs as, and what it may do: (dict "root" $ "name" … "component" … "annotations" … "rules" (list …)). */}}
{{- define "kubedr.identity" -}}
{{- $metadata := include "kubedr.metadata" . -}}
apiVersion: v1
kind: ServiceAccount
{{ $metadata }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
{{ $metadata }}
rules:
  {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
{{ $metadata }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .name }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{- /* How Prometheus is to reach port http. */}}
{{- define "kubedr.scrape" -}}
port: http
{{- with .Values.metrics.tls }}
{{- if .secretName }}
scheme: https
tlsConfig:
  serverName: {{ include "kubedr.controller" $ }}.{{ $.Release.Namespace }}.svc
  {{- if .insecureSkipVerify }}
  insecureSkipVerify: true
  {{- else }}
  ca:
    secret:
      name: {{ .secretName }}
      key: ca.crt
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "kubedr.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}
