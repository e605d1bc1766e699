# The one-machine cluster with the operator in it, for the demo and the tests: source it after lib.sh.
# shellcheck shell=bash

# Where the operator's controller runs.
OPERATOR_NAMESPACE=inference-operator
export OPERATOR_NAMESPACE

# prepare_cluster : install and build all that the cluster and the images need. Sets CLUSTER_BIN and IMAGES.
prepare_cluster() {
  need_linux_root
  need_command cargo "install Rust 1.90 or newer (https://rustup.rs)"
  need_command go "install Go 1.26 or newer (https://go.dev/dl)"
  need_command python3 "install Python 3.11 or newer"
  "$REPO_ROOT/scripts/install-deps" cluster images
  CLUSTER_BIN=$("$REPO_ROOT/scripts/build-cluster" | tail -n 1)
  IMAGES=$("$REPO_ROOT/scripts/build-images" | tail -n 1)
  export CLUSTER_BIN IMAGES
}

# cluster VERB... : the launcher, for the cluster in CLUSTER_DIR, which whoever sources this sets.
# shellcheck disable=SC2153
cluster() {
  "$CLUSTER_BIN/local-cluster" "$1" --dir "$CLUSTER_DIR" "${@:2}"
}

# inside COMMAND... : in the cluster's namespaces, with KUBECONFIG, kubectl and helm.
inside() {
  cluster exec -- "$@"
}

# start_cluster : start it, load the images, install the operator from this checkout. The images have fixed tags: the annotation
# replaces the controller's pods when what is in them changed.
start_cluster() {
  local image=localhost/inference-operator
  cluster up >&2
  cluster load "$IMAGES"/*.tar >&2
  inside "$REPO_ROOT/scripts/install-operator" --set "podAnnotations.images=images-$(basename "$IMAGES")" \
    --set "controller.image.repository=$image/controller" --set controller.image.tag=dev \
    --set "runtime.image.repository=$image/runtime" --set runtime.image.tag=dev
}
