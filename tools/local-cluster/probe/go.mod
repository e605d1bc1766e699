module inference-operator/tools/local-cluster/probe

go 1.26.0
