package kube

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	deploy := func(namespace, spec string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: " + namespace + "}\nspec: {template: {spec: " + spec + "}}\n"
	}
	object := func(apiVersion, kind, rest string) string {
		return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: x" + rest + "}\n"
	}
	tests := []struct{ name, text, reason string }{
		{"plain workload", deploy("web", "{containers: [{name: c, image: i}]}"), ""},
		{"privileged", deploy("web", "{containers: [{name: c, securityContext: {privileged: true}}]}"), "baseline: privileged"},
		{"privileged init", deploy("web", "{initContainers: [{name: c, securityContext: {privileged: true}}]}"), "baseline: privileged"},
		{"host path", deploy("web", "{volumes: [{name: v, hostPath: {path: /}}]}"), "baseline: hostPath"},
		{"host network", deploy("web", "{hostNetwork: true}"), "baseline: host namespaces"},
		{"shadowed key", deploy("web", "{hostNetwork: true, hostnetwork: false}"), "baseline: host namespaces"},
		{"malformed pod", deploy("web", "{containers: 3}"), "cannot be judged"},
		{"workload in kube-system", deploy("kube-system", "{}"), "system namespace"},
		{"cron job", "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: x}\nspec: {jobTemplate: {spec: {template: {spec: {hostPID: true}}}}}\n", "host namespaces"},
		{"pod", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {hostIPC: true}\n", "host namespaces"},
		{"pod annotation", "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {container.apparmor.security.beta.kubernetes.io/c: unconfined}}\nspec: {containers: [{name: c}]}\n", "AppArmor"},
		{"workload of an unknown version", strings.Replace(deploy("web", "{}"), "apps/v1", "apps/v9", 1), "cannot be judged"},
		{"config map", object("v1", "ConfigMap", ""), ""},
		{"secret", object("v1", "Secret", ", namespace: web"), ""},
		{"secret in kube-system", object("v1", "Secret", ", namespace: kube-system"), "system namespace"},
		{"secret in mk-system", object("v1", "Secret", ", namespace: mk-system"), "system namespace"},
		{"namespace", object("v1", "Namespace", ""), ""},
		{"system namespace", "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}\n", "system namespace"},
		{"role", object("rbac.authorization.k8s.io/v1", "Role", ""), "RBAC"},
		{"cluster role binding", object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", ""), "RBAC"},
		{"webhook", object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", ""), "admission"},
		{"policy", object("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", ""), "admission"},
		{"mutating policy", object("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicy", ""), "admission"},
		{"api service", object("apiregistration.k8s.io/v1", "APIService", ""), "APIService"},
		{"crd", object("apiextensions.k8s.io/v1", "CustomResourceDefinition", ""), ""},
		{"crd with conversion", object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "") + "spec: {conversion: {strategy: Webhook}}\n", "webhook"},
		{"crd with malformed conversion", object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "") + "spec: {conversion: 3}\n", "webhook"},
		{"persistent volume", object("v1", "PersistentVolume", ""), "Pod Security"},
		{"external addresses", object("v1", "Service", "") + "spec: {externalIPs: [10.0.0.1]}\n", "externalIPs"},
		{"service", object("v1", "Service", ""), ""},
		{"custom resource", object("example.io/v1", "Widget", ""), "cannot be judged"},
		{"node", object("v1", "Node", ""), "cannot be judged"},
		{"token request of a known name in another group", object("example.io/v1", "ConfigMap", ""), "cannot be judged"},
	}
	c, err := NewClassifier()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			objects, err := ParseManifests([]byte(tt.text), "f")
			if err != nil {
				t.Fatal(err)
			}
			v := c.Classify(objects...)
			if tt.reason == "" {
				if v.Class != Contained {
					t.Fatalf("%+v, want contained", v)
				}
				return
			}
			if v.Class != RootEquivalent || !strings.Contains(strings.Join(v.Reasons, "\n"), tt.reason) {
				t.Fatalf("%+v, want root-equivalent for %q", v, tt.reason)
			}
		})
	}
}
