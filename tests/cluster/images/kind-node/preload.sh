# Bring the images into the node's containerd while the node's image is built.
set -eu
containerd > /tmp/containerd.log 2>&1 &
pid=$!
tries=0
until ctr version > /dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then cat /tmp/containerd.log; exit 1; fi
    sleep 0.1
done
ctr --namespace=k8s.io images import --all-platforms --no-unpack --digests /tmp/images.tar
kill $pid
wait $pid || true
