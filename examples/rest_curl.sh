#!/bin/sh
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
#
# Use a cluster over plain REST, with curl: list nodes, deploy a service, scale it, see what happened.
#
# usage: rest_curl.sh IMAGE    with DOCKER_HOST and DOCKER_CERT_PATH as playbooks/access.yml sets them
set -eu
image=${1:?usage: rest_curl.sh IMAGE}
name=example-curl

# METHOD PATH [curl's options]: of engines from 19.03 on
api() {
  method=$1 path=$2
  shift 2
  curl --silent --show-error --fail --max-time 60 --request "$method" \
    --cacert "$DOCKER_CERT_PATH/ca.pem" --cert "$DOCKER_CERT_PATH/cert.pem" --key "$DOCKER_CERT_PATH/key.pem" \
    --header 'Content-Type: application/json' "$@" "https://${DOCKER_HOST#tcp://}/v1.40$path"
}

# The service that is wanted, with $1 replicas: an update takes the whole of it again.
spec() {
  printf '{"Name":"%s","TaskTemplate":{"ContainerSpec":{"Image":"%s"}},"Mode":{"Replicated":{"Replicas":%d}}}' \
    "$name" "$image" "$1"
}

# jq would tell more; sed tells the names, and needs nothing.
api GET /nodes | grep -o '"Hostname":"[^"]*"' | sed 's/.*:"\(.*\)"/node \1/'

began=$(date +%s)
api POST /services/create --data "$(spec 1)" >/dev/null
trap 'api DELETE "/services/$name"' EXIT

# A change is made to a version, so that two who change at once do not undo each other.
version=$(api GET "/services/$name" | grep -o '"Version":{"Index":[0-9]*' | grep -o '[0-9]*$')
api POST "/services/$name/update?version=$version" --data "$(spec 2)" >/dev/null

# Without "until", the connection stays open, and events come as they happen.
filters="{\"type\":[\"service\"],\"service\":[\"$name\"]}"
api GET /events --get --data-urlencode "filters=$filters" --data "since=$began" --data "until=$(($(date +%s) + 1))" |
  grep -o '"Action":"[^"]*"' | sed 's/.*:"\(.*\)"/event: service \1/'

filters="{\"service\":[\"$name\"],\"desired-state\":[\"running\"]}"
until [ "$(api GET /tasks --get --data-urlencode "filters=$filters" | grep -o '"State":"running"' | wc -l)" -ge 2 ]; do
  sleep 1
done
echo "service $name: 2 tasks run"
