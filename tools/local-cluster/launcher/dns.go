package main

const (
	corednsUser = "system:coredns"
	rbacGroup   = "rbac.authorization.k8s.io"
	rbacPath    = "/apis/" + rbacGroup + "/v1/"
)

type object = map[string]any

// allowDNS lets CoreDNS read what its answers are made of.
func (a *api) allowDNS() error {
	role := object{
		"apiVersion": rbacGroup + "/v1", "kind": "ClusterRole", "metadata": object{"name": corednsUser},
		"rules": []object{
			{"apiGroups": []string{""}, "resources": []string{"services", "pods", "namespaces"}, "verbs": []string{"list", "watch"}},
			{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": []string{"list", "watch"}},
		},
	}
	binding := object{
		"apiVersion": rbacGroup + "/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": corednsUser},
		"roleRef":  object{"apiGroup": rbacGroup, "kind": "ClusterRole", "name": corednsUser},
		"subjects": []object{{"apiGroup": rbacGroup, "kind": "User", "name": corednsUser}},
	}
	if err := a.create(rbacPath+"clusterroles", role); err != nil {
		return err
	}
	return a.create(rbacPath+"clusterrolebindings", binding)
}
