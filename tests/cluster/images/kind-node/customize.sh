# Turn a Debian into a node of kind's: mmdebstrap calls this with the file system's directory.
# FILES is the directory of kind's own files. What is removed is what kind's Dockerfile removes:
# nothing of a machine's start belongs in a container.
set -eu
cd "$1"
cp -r "$FILES"/. .
chmod 755 usr/local/bin/* kind/bin/*
rm -f lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
    lib/systemd/system/multi-user.target.wants/* etc/systemd/system/*.wants/* \
    lib/systemd/system/local-fs.target.wants/* lib/systemd/system/basic.target.wants/* \
    lib/systemd/system/sockets.target.wants/*udev* lib/systemd/system/sockets.target.wants/*initctl*
echo ReadKMsg=no >> etc/systemd/journald.conf
ln -sf /lib/systemd/systemd sbin/init
chroot . systemctl enable --quiet kubelet.service containerd.service undo-mount-hacks.service
chroot . systemctl mask --quiet systemd-binfmt.service
ln -s /usr/bin/containerd usr/local/bin/containerd
mkdir -p opt/cni etc/kubernetes/manifests
ln -s /usr/lib/cni opt/cni/bin
chroot . ctr oci spec > spec.json
chroot . jq 'del(.process.rlimits)
    | .hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}]' spec.json \
    > etc/containerd/cri-base.json
rm spec.json
# Without CAP_SYS_RESOURCE, which a virtual machine may lack, no process may protect itself.
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' etc/containerd/config.toml
